"""Where the steps of a run are executed: the setting `refresh.executor`, never a fork of the code.

Steps hand nothing to each other but their order, so it is all the same to them. `in_process` is the
default because parallelism comes from runs, one per batch: the others pay some seconds a step.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import dagster as dg

from enrich_pipeline import settings as configuration
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.orchestration import liveness
from enrich_pipeline.orchestration.resources import guarded
from enrich_pipeline.store import ready

_PRELOADED = "enrich_pipeline.definitions"


def chosen(name: str) -> dg.ExecutorDefinition:
    """The executor of all jobs.

    Raises ConfigurationError when the package that it needs is not installed.
    """
    if name == "multiprocess":
        forkserver = {"start_method": {"forkserver": {"preload_modules": [_PRELOADED]}}}
        return _living(dg.multiprocess_executor, lambda: forkserver)
    if name == "celery":
        found = _imported("dagster_celery", name).celery_executor
        return _living(found, _celery_configuration)
    if name == "k8s":
        return _living(_imported("dagster_k8s", name).k8s_job_executor, dict)
    return dg.in_process_executor


def _imported(package: str, name: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"refresh.executor is {name}: the package {error.name} is not installed; "
            f"pip install 'enrich-pipeline[{name}]'"
        ) from None


def _celery_configuration() -> Mapping[str, Any]:
    from enrich_pipeline.orchestration import celery_app

    return celery_app.arguments(configuration.load().require_celery_broker())


def _living(
    inner: dg.ExecutorDefinition, fixed: Callable[[], Mapping[str, Any]]
) -> dg.ExecutorDefinition:
    """`inner` with `fixed` laid over its configuration when a run begins, as a `Living` one."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        with guarded(f"executor {inner.name}"):
            config = {**context.executor_config, **fixed()}
            make: Any = inner.executor_creation_fn
            return Living(make(context._replace(executor_config=config)))

    return dg.ExecutorDefinition(
        name=inner.name,
        config_schema=inner.config_schema,  # type: ignore[arg-type]
        requirements=inner.get_requirements,
        executor_creation_fn=create,
        description=inner.description,
    )


class Living(dg.Executor):
    """An executor of other processes that holds its run's lock from the first step to the last.

    Every step's process holds the lock too while it works. So a run is dead when nobody gives out
    its steps and none of them is at work: neither between two steps, nor while the step of a killed
    run goes on spending.
    """

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        """The libraries' loops ask the run's executor, which is this one, for what is theirs."""
        return getattr(self._inner, name)

    @property
    def retries(self) -> Any:
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        with guarded("executor"), _held(plan_context) as held:
            for event in self._inner.execute(plan_context, execution_plan):
                held.renew()
                yield event


@contextmanager
def _held(plan_context: Any) -> Iterator[liveness.Liveness]:
    settings = configuration.load()
    engine = ready.open_engine(settings.database_url, settings.is_embedded, pool_size=1)
    try:
        held = liveness.Liveness(engine, plan_context.run_id)
        try:
            plan_context.instance.add_run_tags(plan_context.run_id, {liveness.MARK: "1"})
            yield held
        finally:
            held.close()
    finally:
        engine.dispose()
