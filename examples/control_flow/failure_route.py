"""Ways out of failures: a handler takes over, an invariant guards the context. Run it: `python failure_route.py`."""

from flujo import Flujo, Pipeline, PipelineContext, step
from flujo.domain.models import StepFailure


class Account(PipelineContext):
    balance: int = 10


@step(updates_context=True, max_retries=0)
async def withdraw(amount: int, context: Account) -> dict[str, int]:
    return {"balance": context.balance - amount}


@step
async def explain(failure: StepFailure) -> str:
    return f"{failure.step} of {failure.input} was refused"


def never_negative(context: Account) -> bool:
    return context.balance >= 0


account = Pipeline([withdraw], on_failure=explain, static_invariants=[never_negative])

if __name__ == "__main__":
    runner = Flujo(account, context_model=Account)
    for amount in (7, 70):
        result = runner.run(amount)
        print(result.output, result.final_pipeline_context.balance)
