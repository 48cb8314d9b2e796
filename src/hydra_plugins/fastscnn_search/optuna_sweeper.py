"""A Hydra sweeper that lets Optuna choose each trial by the results of those before.

The published `hydra-optuna-sweeper` needs Optuna 2; this one is built on the interface that Optuna keeps stable, ask
and tell. Optuna is imported when a search begins.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    import optuna

RESULTS = "search.json"
"""In the multirun's folder: every trial, with its settings and its value, and the best."""
DIRECTIONS = (None, "maximize", "minimize")


class OptunaSweeper(Sweeper):
    """Asks Optuna for trials, runs each as a job, and tells Optuna the value that the job returns.

    Args:
        n_trials: Jobs of the search.
        n_jobs: Trials that are asked for at once, and launched together.
        direction: `maximize`, `minimize`, or None, which minimizes a metric that is a loss.
        sampler: Config of Optuna's sampler.
        storage: Optuna's, for a study that several processes share; None is this process's memory.
        study_name: Its name there.
        params: Setting to what is tried, in Hydra's words for sweeps.
    """

    def __init__(
        self,
        n_trials: int,
        n_jobs: int,
        direction: str | None,
        sampler: DictConfig,
        storage: str | None,
        study_name: str | None,
        params: Mapping[str, Any] | None,
    ) -> None:
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.direction = direction
        self.sampler = sampler
        self.storage = storage
        self.study_name = study_name
        self.params = dict(params or {})
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember the launcher that is going to run the jobs."""
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search; `arguments` are the command line's overrides, of which those with several values are searched too.

        Raises:
            RequestError: Optuna is not installed, or a setting of the search is not what it must be.
        """
        assert self.config is not None and self.hydra_context is not None
        self._check()
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        given = parser.parse_overrides(arguments)
        own = {override.key_or_group for override in given}
        searched = [f"{key}={value}" for key, value in self.params.items() if key not in own]
        fixed, space = separated([*parser.parse_overrides(searched), *given])
        study = self._study()
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(0, self.n_trials, self.n_jobs):
            self._run(study, number, min(self.n_jobs, self.n_trials - number), fixed, space)
            write_results(folder / RESULTS, study)
        print_best(study, folder / RESULTS)

    def _run(self, study: "optuna.Study", first: int, count: int, fixed: list[str], space: dict[str, Any]) -> None:
        """Run some trials as jobs, side by side where the launcher does so."""
        assert self.launcher is not None
        trials = [study.ask(space) for _ in range(count)]
        batch = [[*fixed, *(f"{name}={written(value)}" for name, value in trial.params.items())] for trial in trials]
        if first == 0:
            self.validate_batch_is_legal(batch)
        results = self.launcher.launch(batch, initial_job_idx=first)
        for place, (trial, result) in enumerate(zip(trials, results, strict=True)):
            trial.set_user_attr("job", first + place)
            value = returned(result)
            if value is None:
                study.tell(trial, state=_optuna().trial.TrialState.FAIL)
            else:
                study.tell(trial, value)

    def _check(self) -> None:
        from fastscnn.utils.errors import RequestError
        from fastscnn.utils.values import check_choice, check_whole

        try:
            _optuna()
        except ImportError:
            raise RequestError(
                "hparams_search=optuna needs optuna, which is not installed.",
                key="hparams_search",
                fix="Run pip install optuna.",
            ) from None
        check_whole("hydra.sweeper.n_trials", self.n_trials, 1)
        check_whole("hydra.sweeper.n_jobs", self.n_jobs, 1)
        check_choice("hydra.sweeper.direction", self.direction, DIRECTIONS)

    def _study(self) -> "optuna.Study":
        from fastscnn.utils.targets import build

        assert self.config is not None
        library = _optuna()
        library.logging.set_verbosity(library.logging.WARNING)
        metric = str(OmegaConf.select(self.config, "optimized_metric") or "")
        direction = self.direction or ("minimize" if metric.endswith("loss") else "maximize")
        settings: Any = OmegaConf.to_container(self.sampler, resolve=True)
        study: optuna.Study = library.create_study(
            storage=self.storage,
            study_name=self.study_name,
            sampler=build(settings, "hydra.sweeper.sampler"),
            direction=direction,
            load_if_exists=True,
        )
        return study


def separated(overrides: Sequence[Override]) -> tuple[list[str], dict[str, Any]]:
    """The overrides with one value, as text; and of each other setting the distribution of its values.

    Raises:
        RequestError: Nothing is searched, or an interval has no values.
    """
    from fastscnn.utils.errors import RequestError

    fixed, space = [], {}
    for override in overrides:
        key = override.get_key_element()
        if override.is_sweep_override():
            try:
                space[key] = distribution(override)
            except ValueError as error:
                raise RequestError(
                    f"{override.input_line} cannot be searched ({error}).",
                    key=key,
                    fix="Write interval(LOW,HIGH), for a logarithm tag(log,interval(LOW,HIGH)) with LOW above 0.",
                ) from None
        else:
            fixed.append(key if override.is_delete() else f"{key}={override.get_value_element_as_str()}")
    if not space:
        raise RequestError(
            "hparams_search=optuna has nothing to search.",
            key="hydra.sweeper.params",
            fix="Give a setting several values, as in 'optimizer.lr=interval(0.01,0.1)'.",
        )
    return fixed, space


def distribution(override: Override) -> Any:
    """Optuna's distribution of a sweep: an interval is continuous, or of whole numbers as `int(interval(1,8))`.

    `tag(log, interval(...))` is drawn on a logarithmic scale, and a range has its step.
    """
    distributions = _optuna().distributions
    value = override.value()
    logarithmic = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        assert value.start is not None and value.end is not None
        low, high = value.start, value.end
        if isinstance(low, int) and isinstance(high, int):
            return distributions.IntDistribution(low, high, log=logarithmic)
        return distributions.FloatDistribution(low, high, log=logarithmic)
    if isinstance(value, RangeSweep) and not value.shuffle:
        start, stop, step = value.start, value.stop, value.step
        if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int) and step > 0:
            return distributions.IntDistribution(start, start + (stop - 1 - start) // step * step, step=step)
    assert isinstance(value, ChoiceSweep | RangeSweep) or override.is_discrete_sweep()
    choices = list(override.sweep_iterator(transformer=Transformer.encode))
    return distributions.CategoricalDistribution(choices)


def written(value: Any) -> str:
    """A value of a trial as an override has it; those of a choice are written already."""
    return value if isinstance(value, str) else repr(value)


def returned(result: JobReturn) -> float | None:
    """The value of a job; None where it failed, or has no finite one."""
    try:
        value = result.return_value
    except Exception:  # it has been reported as it happened
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None


def write_results(path: Path, study: "optuna.Study") -> None:
    """Write every trial, and the best where one has a value."""
    trials = [
        {
            "job": trial.user_attrs.get("job"),
            "settings": trial.params,
            "value": trial.value,
            "state": trial.state.name.lower(),
        }
        for trial in study.trials
    ]
    best = _best(study)
    content = {"direction": study.direction.name.lower(), "best": best and _named(best), "trials": trials}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def print_best(study: "optuna.Study", path: Path) -> None:
    """Print the best trial, and where all of them are."""
    best = _best(study)
    if best is None:
        print(f"The search found no value: no trial finished with one. All trials: {path}", file=sys.stderr)
        return
    settings = " ".join(f"{name}={written(value)}" for name, value in best.params.items())
    print(f"\nBest of {len(study.trials)} trials: {best.value:.4f} by {settings}\nAll trials: {path}", flush=True)


def _best(study: "optuna.Study") -> Any:
    finished = study.get_trials(deepcopy=False, states=(_optuna().trial.TrialState.COMPLETE,))
    return study.best_trial if finished else None


def _named(trial: Any) -> dict[str, Any]:
    return {"job": trial.user_attrs.get("job"), "settings": trial.params, "value": trial.value}


def _optuna() -> Any:
    import optuna

    return optuna
