"""Planning: a model trained with plans drafts one for a title, and the plot follows it through every interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from movieplotgpt.engine.model_folder import load_folder
from movieplotgpt.errors import PromptError
from movieplotgpt.generation.generator import PlotGenerator
from movieplotgpt.generation.planning import PLANS, best_plan, plan_request, wants_plan
from movieplotgpt.generation.plots import Plot
from movieplotgpt.text.formatting import PLAN
from movieplotgpt.text.plans import plan_parts


@pytest.fixture(scope="module")
def planner(planned: Path) -> PlotGenerator:
    return PlotGenerator(load_folder(planned))


def test_a_plot_follows_the_plan_that_the_model_wrote_for_its_title(
    planner: PlotGenerator, planned_films: dict[str, str]
) -> None:
    for title, name in zip(planned_films, ("Ada", "Boris", "Clara", "Dmitri"), strict=True):
        plot = planner.plot(f"{title} 3", seed=1)
        names, words = plan_parts(plot.hints[PLAN])
        assert names == [name]
        assert set(words) & set(planned_films[title].split())
        assert plot.prompt == f"{PLAN}: {plot.hints[PLAN]}\nThe plot of '{title} 3' is:\n"
        assert name in plot.text


def test_none_is_the_plain_form(planner: PlotGenerator) -> None:
    plot = planner.plot("Red Dust 3", plan="none", seed=1)
    assert PLAN not in plot.hints
    assert plot.prompt == "The plot of 'Red Dust 3' is:\n"
    assert plot == planner.plot(prompt=plot.prompt, plan="none", seed=1)


def test_a_plan_of_ones_own_decides_what_comes(planner: PlotGenerator) -> None:
    plan = planner.plot("Salt Works 3", seed=1).hints[PLAN]
    plots = planner.plots("", plan=plan, n=8, seed=1)
    assert sum("Clara" in plot.text for plot in plots) >= 6
    assert all(plot.hints[PLAN] == plan for plot in plots)


def test_a_free_prompt_is_planned_as_a_title_is(planner: PlotGenerator) -> None:
    asked = planner.plot("Red Dust 3", seed=2)
    free = planner.plot(prompt="The plot of 'Red Dust 3' is:", seed=2)
    assert (free.prompt, free.text) == (asked.prompt, asked.text)


def test_many_at_once_are_what_each_is_alone_and_streamed(
    planner: PlotGenerator, planned_films: dict[str, str]
) -> None:
    titles = [f"{title} 1" for title in planned_films]
    together = planner.plots(titles, n=2, seed=5)
    alone = [planner.plot(titles[i // 2], seed=5 + i) for i in range(8)]
    assert together == alone
    stream = planner.stream(titles[0], seed=5)
    assert stream.plan == alone[0].hints[PLAN]
    assert "".join(stream) == alone[0].text
    assert stream.plot == alone[0]


def test_a_stopped_stream_has_its_plan(planner: PlotGenerator) -> None:
    stream = planner.stream("Red Dust 3", seed=5)
    stream.stop()
    assert stream.plot.finish_reason == "stopped"
    assert stream.plot.text == ""


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ({"titles": "Red Dust"}, True),
        ({"titles": ""}, True),
        ({"titles": "Red Dust", "plan": "none"}, False),
        ({"titles": "Red Dust", "plan": "names: Ann"}, False),
        ({"titles": "Red Dust", "begin": "Once"}, False),  # a plan would not know what has begun
        ({"prompt": "Once upon a time"}, False),
        ({"prompt": ""}, False),
        ({"prompt": "Plan: names: Ann\nThe plot of 'Red Dust' is:"}, False),
    ],
)
def test_when_a_plan_is_written(planner: PlotGenerator, asked: dict[str, Any], written: bool) -> None:
    assert [wants_plan(request) for request in planner.requests(**asked)] == [written]


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("Names: Ann , Bert;words: sea", "Plan: names: Ann, Bert; words: sea\n"),
        ("Ann, sea", "Plan: names: Ann; words: sea\n"),
        ("names: Ann\nwords: caf\u00e9", "Plan: names: Ann; words: caf\u00e9\n"),
    ],
)
def test_a_plan_is_put_into_its_form(planner: PlotGenerator, said: str, line: str) -> None:
    [request] = planner.requests("Red Dust", plan=said)
    assert request.prompt.header == f"{line}The plot of 'Red Dust' is:\n"
    [free] = planner.requests(prompt="The plot of 'Red Dust' is:", plan=said)
    assert free.prompt.header == request.prompt.header
    [changed] = planner.requests(prompt=request.prompt.header, plan="Cid")
    assert changed.prompt.header == "Plan: names: Cid\nThe plot of 'Red Dust' is:\n"


def test_a_model_without_plans_says_so(overfitted: tuple[Path, Path]) -> None:
    generator = PlotGenerator(load_folder(overfitted[0]))
    with pytest.raises(PromptError, match="trained without plans"):
        generator.requests("Red Dust", plan="names: Ann")
    assert generator.requests("Red Dust", plan="auto") and generator.requests("Red Dust", plan="none")
    assert not wants_plan(generator.requests("Red Dust", plan="auto")[0])


def plan(text: str, gain: float, reason: Any = "stop") -> Plot:
    return Plot("", "", text, reason, seed=0, tokens=1, max_tokens=1, title_gain=gain)


def test_the_best_plan_is_sound_first_and_then_gains_most() -> None:
    plans = [
        plan(" names: Ann; words: sea", 0.1),
        plan(" names: Ann, Bert; words: sea, storm", 0.2),
        plan(" names: Ann, Ann; words: sea", 0.9),
        plan(" names: Ann Lee, Bert Lee; words: sea", 0.8),
        plan(" names: Ann; words: sea", 0.9, "length"),
        plan(" words: sea", 0.9),
        plan("", 2.0),
    ]
    assert best_plan(plans) == "names: Ann, Bert; words: sea, storm"
    assert best_plan(plans[-1:]) == ""


def test_plans_are_chosen_from_sixteen(planner: PlotGenerator) -> None:
    [request] = planner.requests("Red Dust", seed=3)
    asking = plan_request(request, planner.checkpoint)
    assert asking.candidates == PLANS
    assert {planner.writing(each).headers[1] == [] for each in asking.all_candidates()} == {False}
    assert planner.checkpoint.tokenizer.decode(planner.writing(asking).headers[1]) == "Plan: ?\nThe plot of '' is:\n"
