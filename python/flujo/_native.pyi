"""The native module: the engine and its asyncio host. Its names are private; import from `flujo`."""

from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator, Iterator, Mapping, Sequence
from collections.abc import Callable as AnyCallable
from decimal import Decimal
from os import PathLike
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, final, overload

from flujo.domain.usage import UsageLimits

_T = TypeVar("_T")

@final
class OptimizationConfig:
    """Which optimisations are used, and their settings."""

    def __new__(
        cls,
        *,
        enable_object_pooling: bool = True,
        enable_context_optimization: bool = True,
        enable_step_analysis: bool = True,
        enable_telemetry_optimization: bool = True,
        enable_performance_monitoring: bool = True,
        enable_cache_optimization: bool = True,
        enable_usage_optimization: bool = True,
        execution_time_threshold: float = 1.0,
        memory_usage_threshold: float = 100.0,
        cache_hit_rate_threshold: float = 0.8,
        max_pool_size: int = 100,
        cache_max_size: int = 1024,
        cache_ttl_seconds: float | None = 3600.0,
    ) -> Self: ...
    @property
    def enable_object_pooling(self) -> bool: ...
    @property
    def enable_context_optimization(self) -> bool: ...
    @property
    def enable_step_analysis(self) -> bool: ...
    @property
    def enable_telemetry_optimization(self) -> bool: ...
    @property
    def enable_performance_monitoring(self) -> bool: ...
    @property
    def enable_cache_optimization(self) -> bool: ...
    @property
    def enable_usage_optimization(self) -> bool: ...
    @property
    def execution_time_threshold(self) -> float: ...
    @property
    def memory_usage_threshold(self) -> float: ...
    @property
    def cache_hit_rate_threshold(self) -> float: ...
    @property
    def max_pool_size(self) -> int: ...
    @property
    def cache_max_size(self) -> int: ...
    @property
    def cache_ttl_seconds(self) -> float | None: ...
    @staticmethod
    def plain() -> OptimizationConfig: ...
    @staticmethod
    def from_dict(fields: Mapping[str, Any], /) -> OptimizationConfig: ...
    def to_dict(self) -> dict[str, Any]: ...
    def replace(self, **fields: Any) -> OptimizationConfig: ...
    def __replace__(self, **fields: Any) -> OptimizationConfig: ...
    def __copy__(self) -> OptimizationConfig: ...
    def __deepcopy__(self, _memo: Any) -> OptimizationConfig: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class RateLimit:
    """How often agents are called. Whatever has the same name shares it: steps, agents, runners, runs.

    Args:
        name: Tells it from others.
        requests_per_minute: Calls that may arrive in any minute.
        tokens_per_minute: Tokens of the calls of any minute: as `expected_tokens` says, and as used once that is known.
        max_concurrent: Calls under way at the same time.
        redis: The address of a Redis server, `redis://host:6379/0`, that counts for all processes which name it. While
            it can't be reached each process keeps the limit by itself, and an alert says so.

    Raises:
        TypeError: a field has a wrong type.
        ValueError: a rate isn't above 0 or not finite, or nothing is limited; or `redis` is no address.
    """

    def __new__(
        cls,
        name: str,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        max_concurrent: int | None = None,
        *,
        redis: str | None = None,
    ) -> Self: ...
    @property
    def redis(self) -> str | None: ...
    @property
    def name(self) -> str: ...
    @property
    def requests_per_minute(self) -> float | None: ...
    @property
    def tokens_per_minute(self) -> float | None: ...
    @property
    def max_concurrent(self) -> int | None: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]: ...

@final
class LoopRates:
    """The rate limits of an event loop whose time is its own."""

@final
class OptimizedTelemetry:
    """Records the spans of runs and hands them to exporters: `Flujo(..., telemetry=…)`. Any number of runners may share
    it. Exporters work in a thread of their own, which starts with the first run and anew in a child process; no run
    waits for them. In a program that has set up OpenTelemetry the spans go there, and not to `otlp` as well.

    Args:
        otlp: The address of an OpenTelemetry collector, such as `http://localhost:4318`; True for the one that the
            environment names (`OTEL_EXPORTER_OTLP_ENDPOINT` and the other variables of OpenTelemetry).
        protocol: `http/protobuf` or `grpc`.
        headers: Sent along to the collector.
        timeout_s: How long the collector may take.
        service_name: The resource's `service.name`.
        jsonl: A file that gets a line of JSON for each span.
        prometheus: Serves metrics of finished runs at this port or `host:port`, 0 for a free one; True counts them for
            `metrics()` alone.
        console: Print each run as a tree on standard error.
        sample: The share of runs whose spans are recorded, from 0 to 1; their ids decide. Metrics count all runs.
        capture_content: Record what agents are given and give, and the texts of errors. Without it none of them leaves
            the process.
        queue_size: How many spans may wait; those beyond are dropped and counted.

    Raises:
        OSError: the file can't be written or the port can't be listened at.
        ValueError: an address or a number can't be used.
        TypeError: an argument has a wrong type.
    """

    def __new__(
        cls,
        *,
        otlp: str | bool | None = None,
        protocol: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        service_name: str | None = None,
        jsonl: str | PathLike[str] | None = None,
        prometheus: int | str | bool | None = None,
        console: bool = False,
        sample: float = 1.0,
        capture_content: bool = False,
        queue_size: int = 32_768,
    ) -> Self: ...
    def take(self, at_most: int = 10_000) -> list[dict[str, Any]]:
        """Take out spans that wait, the oldest first: for an exporter of one's own, where none of those that ship was
        asked for.
        """

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Let the spans of runs that have ended leave the process; whether they have in this time."""

    def shutdown(self, timeout_s: float = 5.0) -> bool:
        """The same, and record and serve nothing from then on. The end of the process does it by itself, for two
        seconds.
        """

    def statistics(self) -> dict[str, Any]:
        """What was counted in this process: `spans_started`, `spans_ended`, `spans_dropped`, `flushes`,
        `queue_high_water`, and in seconds `overhead_per_span`, what a span takes on the step's own thread.
        """

    def metrics(self) -> str:
        """The metrics of finished runs as Prometheus reads them; empty unless `prometheus` was given."""

    @property
    def prometheus_address(self) -> str | None:
        """Where Prometheus finds the metrics, `host:port`; None where they aren't served."""

@final
class OptimizedUsageMeter:
    """A budget that any number of threads and tasks share, exact at every read.

    Args:
        limits: The most that may be used; nothing is limited without it.
    """

    def __new__(cls, limits: UsageLimits | None = None) -> Self: ...
    def reserve(
        self,
        *,
        cost_usd: float | Decimal | None = None,
        tokens: int | None = None,
        requests: int | None = None,
        step: str = "",
    ) -> UsageReservation:
        """Set an estimate aside before the work begins.

        Raises:
            UsageLimitExceededError: a limit would be passed; nothing is set aside.
            ValueError: an amount is negative, NaN, infinite or too large to be counted.
        """

    def add(
        self,
        *,
        cost_usd: float | Decimal | None = None,
        tokens: int | None = None,
        requests: int | None = None,
        step: str = "",
    ) -> None:
        """Count what was used without a reservation.

        Raises:
            UsageLimitExceededError: what has been used by now passes a limit; it counts all the same.
            ValueError: an amount is negative, NaN, infinite or too large to be counted.
        """

    @property
    def used(self) -> dict[str, Any]: ...
    @property
    def reserved(self) -> dict[str, Any]: ...
    def statistics(self) -> dict[str, Any]:
        """What was `reserved`, `committed` and `refunded`, and in how many `batches`."""

@final
class UsageReservation:
    """What was set aside for one call; as a context manager it is given back unless it was settled."""

    def settle(
        self,
        *,
        cost_usd: float | Decimal | None = None,
        tokens: int | None = None,
        requests: int | None = None,
    ) -> None:
        """Replace the estimate by what was used.

        Raises:
            UsageLimitExceededError: what has been used by now passes a limit; it counts all the same.
            RuntimeError: it was settled or given back already.
            ValueError: an amount is negative, NaN, infinite or too large to be counted.
        """

    def refund(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *_args: object) -> None: ...

_Alert = tuple[str, str, float | None, float | None, str | None, float, str]

@final
class MonitorCore:
    """Watches thresholds; gives the fields of an alert, once per crossing."""

    def __new__(cls, config: OptimizationConfig | None = None) -> Self: ...
    def record(self, step: str, seconds: float) -> _Alert | None: ...
    def record_lookup(self, step: str, hit: bool) -> _Alert | None: ...
    def record_memory(self) -> _Alert | None: ...
    def statistics(self) -> dict[str, int]: ...
    def reset(self) -> None: ...

@final
class Callable:
    """A callable of a plan and how it wants to be called."""

    def __new__(
        cls,
        target: object,
        protocol: str,
        *,
        name: str,
        worker: bool = False,
        takes_input: bool = True,
        context_by_position: bool = False,
        arguments: Sequence[str] | None = None,
        context_keyword: str | None = None,
        resources_keyword: str | None = None,
        constants: dict[str, Any] | None = None,
        keys: dict[Any, int] | None = None,
        returns: type | None = None,
        retry_on: tuple[Any, ...] | None = None,
        agent: object = None,
    ) -> Self: ...

@final
class CompiledPlan:
    """What is known about a pipeline before it runs; shared by all its runs."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def step_at(self, path: str) -> Any: ...
    def __len__(self) -> int: ...
    def paths(self) -> list[str]: ...

@final
class PlanBuilder:
    """Takes in the nodes of a definition, children before the nodes around them; each gives its id."""

    def __new__(cls) -> Self: ...
    def step(
        self,
        name: str,
        agent: Callable | None = None,
        *,
        body: int | None = None,
        object: Any = None,
        prompt_processors: Sequence[Callable] = ...,
        output_processors: Sequence[Callable] = ...,
        plugins: Sequence[Callable] = ...,
        validators: Sequence[Callable] = ...,
        apply: Callable | None = None,
        persist: Callable | None = None,
        max_retries: int = 1,
        timeout_s: float | None = None,
        deadline_s: float | None = None,
        backoff: tuple[float, float, float, float] | None = None,
        fallback: int | None = None,
        expected_cost_usd: float | Decimal | int | str | None = None,
        expected_tokens: int | None = None,
        usage_limits: tuple[float | Decimal | int | str | None, int | None, int | None] | None = None,
        on_rejection: str = "fail",
        unpriced: bool = False,
        cache: CachedResults | None = None,
        cache_key: Callable | None = None,
        rate_limits: Sequence[RateLimit] = ...,
    ) -> int: ...
    def sequence(self, children: Sequence[int]) -> int: ...
    def conditional(
        self,
        name: str,
        condition: Callable,
        branches: Sequence[tuple[str, int]],
        *,
        object: Any = None,
        default: int | None = None,
        input_mapper: Callable | None = None,
        output_mapper: Callable | None = None,
        deadline_s: float | None = None,
    ) -> int: ...
    def parallel(
        self,
        name: str,
        branches: Sequence[tuple[str, int]],
        collect: Callable,
        *,
        object: Any = None,
        router: int | None = None,
        select: Callable | None = None,
        on_failure: str = "propagate",
        max_concurrency: int | None = None,
        merge: Callable | None = None,
        deadline_s: float | None = None,
    ) -> int: ...
    def map(
        self,
        name: str,
        body: int,
        items: Callable,
        collect: Callable,
        *,
        object: Any = None,
        on_failure: str = "propagate",
        max_concurrency: int = 1,
        merge: Callable | None = None,
        deadline_s: float | None = None,
    ) -> int: ...
    def group(
        self,
        name: str,
        body: int,
        *,
        object: Any = None,
        inherit: Callable | None = None,
        collect: Callable | None = None,
        deadline_s: float | None = None,
    ) -> int: ...
    def repeat(
        self,
        name: str,
        body: int,
        exit: Callable,
        *,
        object: Any = None,
        judge: int | None = None,
        first_input: Callable | None = None,
        next_input: Callable | None = None,
        output: Callable | None = None,
        max_loops: int = 5,
        go_on: bool = False,
        deadline_s: float | None = None,
    ) -> int: ...
    def states(
        self,
        name: str,
        states: Sequence[tuple[str, int | None, bool]],
        start: int,
        next: Callable,
        *,
        object: Any = None,
        deadline_s: float | None = None,
    ) -> int: ...
    def guard(self, body: int, describe: Callable, handler: int) -> int: ...
    def human(
        self,
        name: str,
        question: Callable,
        accept: Callable,
        *,
        object: Any = None,
        timeout_s: float | None = None,
        default: Callable | None = None,
        deadline_s: float | None = None,
    ) -> int: ...
    def optimize(self, node: int, config: OptimizationConfig) -> None: ...
    def finish(self, name: str, root: int) -> CompiledPlan: ...

@final
class KeptRuns:
    """How a runner keeps its runs."""

    def __new__(
        cls,
        store: Store,
        *,
        durability: Literal["strict", "async", "exit"] = "strict",
        lease_s: float = 10.0,
        classes: Sequence[type] = ...,
        version: str | None = None,
    ) -> Self: ...
    @property
    def store(self) -> Store: ...
    def recorded(self, run_id: str, event_loop: Any) -> Future[RecordedRun]: ...
    def waiting(self, event_loop: Any, pipeline: str, limit: int) -> Future[list[str]]: ...
    def post(
        self, event_loop: Any, run_id: str, *, pause: str | None = None, answer: str | None = None
    ) -> Future[int]: ...
    def left(self, event_loop: Any, run_id: str) -> Future[list[tuple[int, str | None]]]: ...
    def close(self) -> None: ...

@final
class Engine:
    """One runner's engine."""

    def __new__(
        cls,
        compile: AnyCallable[[bool], CompiledPlan],
        *,
        workers: object,
        runs: object,
        cancel_grace_s: float = 5.0,
        make_context: AnyCallable[..., Any] | None = None,
        resources: object = None,
        hooks: Sequence[tuple[AnyCallable[..., object], int]] = ...,
        cost_limit: float | Decimal | int | str | None = None,
        token_limit: int | None = None,
        request_limit: int | None = None,
        rate_limits: Sequence[RateLimit] = ...,
        deadline_s: float | None = None,
        config: OptimizationConfig | None = None,
        optimized: bool = True,
        traces: bool = True,
        telemetry: OptimizedTelemetry | None = None,
        on_alert: object = None,
        keeping: KeptRuns | None = None,
        versions: AnyCallable[[str], CompiledPlan] | None = None,
        migrate: AnyCallable[[Migration], object] | None = None,
        player: RecordedRun | None = None,
    ) -> Self: ...
    def stored(self, run_id: str, traceparent: str | None = None) -> Run: ...
    def fork(
        self, run_id: str, step: str, iteration: int | None, new_id: str, *, event_loop: Any
    ) -> Future[None]: ...
    def run(
        self,
        input: Any,
        run_id: str | None = None,
        initial_context_data: Mapping[str, Any] | None = None,
        traceparent: str | None = None,
    ) -> Run: ...
    def resume(
        self,
        paused: PausedRun,
        answers: Sequence[tuple[str, Any]],
        expired: Sequence[str] = ...,
        *,
        cancel: bool = False,
        traceparent: str | None = None,
    ) -> Run: ...
    def resume_stopped(
        self,
        stopped: PausedRun,
        limits: tuple[float | Decimal | int | str | None, int | None, int | None] | None = None,
        traceparent: str | None = None,
    ) -> Run: ...
    def paused(self, run_id: str) -> PausedRun | None: ...
    def forget(self, paused: PausedRun) -> None: ...
    def forget_paused(self) -> None: ...
    def plan(self) -> CompiledPlan: ...
    def switch(self, optimized: bool) -> None: ...
    def disable_tracing(self) -> None: ...
    def is_optimized(self) -> bool: ...
    def statistics(self) -> dict[str, Any]: ...
    def reset_statistics(self) -> None: ...
    def report_degraded(self, part: str, reason: str) -> None: ...
    def begin_drill(self, part: str) -> None: ...
    def end_drill(self, part: str) -> None: ...
    def report_recovered(self, part: str) -> None: ...

@final
class Switch:
    """Cancels one run, from its loop's thread."""

    def cancel(self) -> None: ...
    def __call__(self, /, *args: Any, **kwargs: Any) -> None: ...

@final
class Overdue:
    """Called by the loop when a cancelled call has had its time."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> None: ...

@final
class Run:
    """A run as a coroutine that starts when it is awaited."""

    __name__: str
    __qualname__: str
    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def send(self, _value: Any) -> Any: ...
    def throw(self, error: Any, value: Any = None, traceback: TracebackType | None = None) -> Any: ...
    def close(self) -> None: ...
    def listen(self, listener: object) -> None: ...
    @property
    def cr_running(self) -> bool: ...
    @property
    def cr_frame(self) -> None: ...
    @property
    def cr_await(self) -> None: ...
    def __aiter__(self) -> AsyncIterator[Any]: ...

@final
class Lane:
    """A lane as a coroutine."""

    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def send(self, _value: Any) -> Any: ...
    def throw(self, error: Any, value: Any = None, traceback: TracebackType | None = None) -> Any: ...
    def close(self) -> None: ...

@final
class Place:
    """The step that is being worked on, as seen from inside it."""

    @property
    def run_id(self) -> str: ...
    @property
    def step(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def lane(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def iteration(self) -> int: ...
    @property
    def listener(self) -> Any: ...
    @property
    def workers(self) -> Any: ...
    @property
    def traceparent(self) -> str | None: ...
    @property
    def idempotency_key(self) -> str: ...
    @property
    def parts(self) -> StepParts: ...
    @overload
    def once(self, key: str, work: AnyCallable[[], Awaitable[_T]]) -> Coroutine[Any, Any, _T]: ...
    @overload
    def once(self, key: str, work: AnyCallable[[], _T]) -> Coroutine[Any, Any, _T]: ...

@final
class StepParts:
    """What a step does once, as long as one of its calls is under way."""

    @property
    def by_name(self) -> dict[str, Any]: ...
    def record(self, name: str, value: Any) -> None: ...
    def written(self, event_loop: Any) -> Future[None] | None: ...

@final
class Migration:
    """A stored run that began with another pipeline, before it is decided whether it can go on."""

    @property
    def steps(self) -> list[str]: ...
    @property
    def differences(self) -> list[str]: ...
    def rename(self, before: str, now: str) -> None: ...

@final
class RecordedRun:
    """A stored run, read to be played again once."""

    @property
    def status(self) -> str: ...
    @property
    def stops(self) -> list[tuple[bool, int]]: ...
    @property
    def answers(self) -> list[tuple[str, str, Any]]: ...
    @property
    def output(self) -> Any: ...
    @property
    def context(self) -> Any: ...
    @property
    def usage(self) -> dict[str, Any]: ...
    @staticmethod
    def same(recorded: object, now: object) -> bool: ...
    def gave(self, output: Any) -> bool: ...
    def differences(
        self,
    ) -> list[tuple[str, str, int, Literal["input", "call"], Any, Any]]: ...

@final
class PausedRun:
    """A run that stands still."""

    @property
    def last_record(self) -> int | None: ...
    @property
    def run_id(self) -> str: ...
    @property
    def is_stopped(self) -> bool: ...
    @property
    def status(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    def open(self) -> list[tuple[Any, Any]]: ...
    def was_answered(self, id: str) -> bool: ...

@final
class RunRecord:
    """A run that has ended, read field by field."""

    def touched(self) -> list[str]: ...
    def field(self, name: str) -> Any: ...

@final
class StepRecord:
    """A step of a run, read field by field."""

    def field(self, name: str) -> Any: ...

@final
class LeafRecord:
    """A plain step that went well: what its results have in common."""

    def field(self, name: str) -> Any: ...

@final
class Waker:
    """Called by the loop when a timer of a machine fires."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> None: ...

@final
class Expiry:
    """Called by the loop when an attempt's time is up."""

    def __call__(self, /, *args: Any, **kwargs: Any) -> None: ...

def definition_changed() -> None: ...
def definition_epoch() -> int: ...
def has_price(agent: object) -> bool: ...
def context_view(base: Any) -> Any: ...
def context_touched(view: Any) -> list[str]: ...
def context_commit(view: Any, into: Any) -> None: ...
def context_merge(base: Any, lanes: Sequence[tuple[str, Any]], strategy: str = "context_update") -> None: ...
def context_plain(context: Any) -> Any: ...
def clone_value(value: Any) -> Any: ...

@final
class ResultCache:
    """A cache of results: in memory, perhaps with a second tier."""

    def __new__(
        cls,
        *,
        max_size: int | None = None,
        ttl_s: float | None = None,
        optimized: bool = True,
        path: str | None = None,
        url: str | None = None,
        max_bytes: int | None = None,
        prefix: str | None = None,
        timeout_s: float = 2.0,
        retry_after_s: float = 1.0,
    ) -> Self: ...
    def find(self, key: Any) -> tuple[bool, Any]: ...
    def put(self, key: Any, value: Any, ttl_s: float | None = None) -> bool: ...
    def remove(self, key: Any) -> bool: ...
    def clear(self) -> None: ...
    def join(self, key: Any) -> tuple[str, Any]: ...
    def stored(self, event_loop: Any) -> Future[None] | None: ...
    @property
    def second(self) -> str | None: ...
    def statistics(self) -> dict[str, Any]: ...

@final
class NamedLead:
    """The right to make the value of a key."""

    def put(self, key: Any, value: Any, ttl_s: float | None = None) -> bool: ...
    def release(self) -> None: ...

@final
class NamedSeat:
    """Where somebody waits for the value of a key."""

    def future(self, event_loop: Any) -> Future[None] | None: ...
    def leave(self) -> None: ...
    def take(self) -> tuple[str, Any]: ...

@final
class CachedResults:
    """How the results of a step are kept."""

    def __new__(
        cls,
        cache: ResultCache,
        *,
        scope: str | list[str],
        ttl_s: float | None = None,
        known: str | None = None,
        local: int = 0,
    ) -> Self: ...

def next_identity() -> int: ...
def cache_form(value: Any) -> tuple[bytes, bool]: ...
def cache_stored(value: Any) -> bytes: ...
def cache_restored(bytes: bytes) -> Any: ...
def isolated_value(value: Any) -> Any | None: ...

@final
class Store:
    """A store of runs that is open. With an `event_loop` methods give a future of that loop; without one they wait."""

    @staticmethod
    def memory() -> Store: ...
    @staticmethod
    def sqlite(
        path: str | PathLike[str], *, busy_timeout_s: float = 5.0, max_bytes: int | None = None
    ) -> Store: ...
    @staticmethod
    def postgres(
        url: str,
        *,
        schema: str = "flujo",
        authorities: str | PathLike[str] | None = None,
        busy_timeout_s: float = 5.0,
        reconnect_timeout_s: float = 10.0,
    ) -> Store: ...
    def sealed(self, key: bytes | None) -> Store: ...
    @property
    def kind(self) -> str: ...
    @property
    def place(self) -> str: ...
    def info(self, run_id: str, *, event_loop: Any = None) -> Any: ...
    def steps(self, run_id: str, *, event_loop: Any = None) -> Any: ...
    def events(self, run_id: str, after: int, *, event_loop: Any = None) -> Any: ...
    def questions(self, run_id: str, *, event_loop: Any = None) -> Any: ...
    def version(self, run_id: str, *, event_loop: Any = None) -> Any: ...
    def list(
        self,
        *,
        statuses: Sequence[str] | None = None,
        pipeline_name: str | None = None,
        created_from: int | None = None,
        created_before: int | None = None,
        after: tuple[int, str] | None = None,
        oldest_first: bool = False,
        limit: int = 50,
        event_loop: Any = None,
    ) -> Any: ...
    def purge(
        self,
        *,
        run_id: str | None = None,
        pipeline_name: str | None = None,
        statuses: Sequence[str] | None = None,
        updated_before: int | None = None,
        keep: int | None = None,
        event_loop: Any = None,
    ) -> Any: ...
    def workers(self, *, event_loop: Any = None) -> Any: ...
    def flush(self, *, event_loop: Any = None) -> Any: ...
    def close(self) -> None: ...

@final
class NativeAgent:
    """An agent that ships with Flujo."""

    def __new__(cls, type: str, settings: dict[str, Any]) -> Self: ...
    @property
    def pricing(self) -> str: ...
    def start(self, data: Any, context: Any, place: Place | None) -> Any: ...
    def stream(self, data: Any, context: Any, place: Place | None) -> NativeCall: ...

@final
class NativeCall:
    """A call under way."""

    @property
    def future(self) -> Future[Any]: ...
    def abort(self) -> None: ...
    def ended(self) -> Future[None] | None: ...
    def take_chunk(self) -> tuple[()] | tuple[Any] | None: ...
    def next_chunk(self) -> Future[tuple[()] | tuple[Any]]: ...

@final
class Template:
    """A text with placeholders."""

    def __new__(cls, source: str, place: str = "the template") -> Self: ...
    @property
    def source(self) -> str: ...
    @property
    def reads_context(self) -> bool: ...
    def render(self, value: Any, context: Any = None, **names: Any) -> str: ...
    def __call__(self, value: Any, context: Any = None, **names: Any) -> Any: ...

@final
class Expression:
    """What stands between `{{` and `}}`."""

    def __new__(cls, source: str, place: str = "the expression") -> Self: ...
    @property
    def source(self) -> str: ...
    @property
    def reads_context(self) -> bool: ...
    def __call__(self, value: Any, context: Any = None, **names: Any) -> Any: ...
    def is_true(self, value: Any, context: Any = None, **names: Any) -> bool: ...

@final
class JsonSchema:
    """A compiled JSON schema."""

    def __new__(cls, schema: dict[str, Any]) -> Self: ...
    def check(self, value: Any) -> list[tuple[tuple[str | int, ...], str]]: ...

@final
class Claims:
    def __new__(cls) -> Self: ...
    @staticmethod
    def rows() -> list[str]: ...
    def measure(self, row: str, pairs: int, apart: AnyCallable[[str, int], list[float]]) -> None: ...
    def judge(
        self,
        *,
        name: str,
        part: str,
        unit: str,
        promise: Literal["less", "more"],
        seed: float,
        target: float,
        plain: Sequence[float],
        optimized: Sequence[float],
        reference: tuple[str, Sequence[float]] | None = None,
    ) -> None: ...
    def table(self) -> str: ...
    def picture(self) -> str: ...
    def json(self) -> str: ...
    def hold(self) -> bool: ...

def run_command_line(arguments: Sequence[str], itself: Sequence[str]) -> int: ...
