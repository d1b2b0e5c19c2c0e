"""An import: a pipeline with a context of its own; one value comes back. Run it: `python import_pipeline.py`."""

from flujo import Flujo, Pipeline, PipelineContext, step
from flujo.domain.dsl import ImportStep, OutputMapping


class Notes(PipelineContext):
    summary: str = ""
    scratch: list[str] = []


@step(sink_to="summary")
async def summarise(text: str, context: Notes) -> str:
    context.scratch.append("read it twice")
    return text[:12] + "…"


summary = ImportStep("summary", Pipeline([summarise]), outputs=[OutputMapping("summary", "summary")])

if __name__ == "__main__":
    context = (
        Flujo(summary, context_model=Notes).run("A pipeline that somebody else wrote").final_pipeline_context
    )
    print(context.summary, context.scratch)
