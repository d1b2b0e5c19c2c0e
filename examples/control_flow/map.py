"""The same step for each item, some at a time; a failed item can be left out. Run it: `python map.py`."""

from flujo import Flujo, PipelineContext, Step, StepConfig, step


class Words(PipelineContext):
    words: list[str] = []


@step(config=StepConfig(max_retries=0))
async def double(word: str) -> int:
    return 2 * int(word)


double_all = Step.map_over(
    "double_all", double, iterable_input="words", max_concurrency=3, on_item_failure="skip"
)

if __name__ == "__main__":
    runner = Flujo(double_all, context_model=Words, initial_context_data={"words": ["1", "2", "x", "4"]})
    result = runner.run("")
    print(result.output)
    print([item.success for item in result.step_history[0].items])
