"""What must hold after every step; the first step that breaks it fails. Run it: `python invariants.py`."""

from flujo import Flujo, Pipeline, PipelineContext, step


class Account(PipelineContext):
    balance: int = 10


@step
async def withdraw(amount: int, context: Account) -> int:
    context.balance -= amount
    return amount


def solvent(_output: object, context: Account) -> bool:
    return context.balance >= 0


account = Pipeline(steps=[withdraw], static_invariants=[solvent])

if __name__ == "__main__":
    runner = Flujo(account, context_model=Account)
    print(runner.run(7).final_pipeline_context.balance)
    refused = runner.run(70)
    print(refused.success, refused.final_pipeline_context.balance)
