"""Every page in a real browser with the network off: opens, slides, sorts, says no error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
from browser import Page
from reporting_fixtures import config, ohem_study, write_run

from minesweep.dashboard.index import render, write_index
from minesweep.dashboard.scan import RunLine, Scan

Open = Callable[[Path], Page]
VIEWS = [
    {"kind": "surface", "x": "k", "y": "miner"},
    {"kind": "tradeoff", "x": "samples/backward", "y": "test/accuracy", "by": "miner"},
]


def column(page: Page, table: str, place: int) -> list[str]:
    cells = page.locator(f"#{table} tbody tr:not([hidden]) td:nth-child({place})")
    return cells.all_text_contents()


def test_the_index(open_page: Open, tmp_path: Path) -> None:
    ohem_study(tmp_path / "nk", {128: 0.01, 384: -0.004}, seeds=range(3))
    hostile = tmp_path / "<img src=x onerror=alert(1)>"
    write_run(hostile, config(), name="<script>alert(2)<\N{FRACTION SLASH}script>")
    write_run(hostile, config(), name="broke", state="failed", reason="</script><script>alert(3)")
    write_run(hostile, config(), name="killed", state="running", steps=40)
    page = open_page(write_index(tmp_path))
    page.look()
    told = page.locator("[data-counts=runs]")
    assert told.inner_text() == "18 shown"

    head = page.locator("#runs thead th").nth(0)
    names = column(page, "runs", 1)
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    up = column(page, "runs", 1)
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, "runs", 1) == up[::-1]
    assert sorted(up) == sorted(names)

    page.locator("#words").fill("ohem k128")
    assert told.inner_text() == "3 of 18 shown"
    page.locator("#words").fill("")
    page.locator("#state").select_option("failed")
    assert told.inner_text() == "1 of 18 shown"
    page.reload()
    assert told.inner_text() == "1 of 18 shown", "loading it again keeps what was chosen"
    page.locator("#state").select_option("")
    page.locator("#studies a[data-study]").filter(has_text="nk").click()
    assert told.inner_text() == "15 of 18 shown"

    page.locator("#study").select_option("<img src=x onerror=alert(1)>")
    assert told.inner_text() == "3 of 18 shown"
    shown = page.locator("#runs").inner_text()
    assert "<script>alert(2)" in shown
    assert "</script><script>alert(3)" in shown
    assert page.locator("main img").count() == 0


def test_a_thousand_runs(open_page: Open, tmp_path: Path) -> None:
    lines = [
        RunLine("nk", f"run-{i:04d}", "finished", "", 100, 100, "val/accuracy", i / 1000)
        for i in range(1000)
    ]
    path = tmp_path / "index.html"
    path.write_text(render(Scan(tmp_path, lines, {}, {})))
    page = open_page(path)
    button = page.locator("#runs thead th").nth(4).locator("button")
    button.click()
    button.click()
    assert page.locator("#runs tbody tr").count() == 1000
    assert page.locator("#runs tbody tr td").first.inner_text() == "run-0999"


def test_the_study_page(open_page: Open, tmp_path: Path) -> None:
    from minesweep.reporting.analyse.report import analyse
    from minesweep.reporting.show.figures import all_figures
    from minesweep.reporting.show.write import render as render_study

    study = ohem_study(tmp_path / "nk", {128: 0.01, 384: -0.004}, seeds=range(3))
    (study / "report.yaml").write_text(yaml.safe_dump({"baseline": "random_k", "views": VIEWS}))
    path = tmp_path / "report.html"
    report = analyse(study)
    path.write_text(render_study(report, all_figures(report)))
    page = open_page(path)
    # Every figure is drawn, also those that wait until they are near.
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        plot.locator("svg").wait_for(state="attached")
    page.look()
    check_table(page)
    check_slider(page)
    check_axes(page)
    check_brush(page)


def check_table(page: Page) -> None:
    """Numbers sort by their size, and dashes come last either way."""
    heads = [text.split("\xa0")[0] for text in page.locator("#means thead th").all_text_contents()]
    place = 1 + heads.index("difference to baseline [95 %], points")
    button = page.locator(f"#means thead th:nth-child({place}) button")
    button.click()
    up = column(page, "means", place)
    button.click()
    down = column(page, "means", place)
    minus, dash = "\N{MINUS SIGN}", "\N{EN DASH}"
    numbers = [float(text.split(" ")[0].replace(minus, "-")) for text in up if text != dash]
    assert numbers == sorted(numbers)
    assert len(numbers) >= 2
    assert up.count(dash) >= 1
    assert up[len(numbers) :] == down[len(numbers) :] == [dash] * up.count(dash)


def check_slider(page: Page) -> None:
    plot = page.locator("#losses")
    plot.locator("svg text", has_text="step 20").wait_for()
    # A figure that is drawn anew, at another width, begins as at first: each look sets both again.
    bars = "[...document.querySelectorAll('#losses .mark-rect path')].map(b => b.outerHTML).join()"
    choose = """
        const plot = document.querySelector("#losses");
        const slider = plot.querySelector("input[type=range]"), arm = plot.querySelector("select");
        slider.value = slider.max;
        slider.dispatchEvent(new Event("input"));
        const last = [...plot.querySelectorAll("svg text")].some(t => t.textContent == "step 100");
    """
    page.wait_for_function(f"() => {{ {choose} return last; }}", timeout=100_000)
    before = page.evaluate(bars)
    change = "arm.selectedIndex = 1; arm.dispatchEvent(new Event('change'));"
    page.wait_for_function(
        f"() => {{ {choose} {change} return last && {bars} !== {before!r}; }}", timeout=100_000
    )


def check_axes(page: Page) -> None:
    section = page.locator("section[data-kind=curve]")
    first = section.locator(".plot").first
    first.locator("svg text", has_text="samples backpropagated").wait_for()
    section.locator("select.axis").select_option("steps")
    first.locator("svg text", has_text="steps").wait_for()
    assert first.locator("svg text", has_text="samples backpropagated").count() == 0


def check_brush(page: Page) -> None:
    """The runs that are kept on an axis are kept in the table of all runs, too."""
    plot = page.locator("#parallel")
    plot.scroll_into_view_if_needed()
    box = plot.locator("svg text", has_text="ohem").bounding_box()
    x, y = box["x"] + box["width"], box["y"] + box["height"] / 2
    page.mouse.move(x - 20, y - 20)
    page.mouse.down()
    page.mouse.move(x + 20, y + 20, steps=5)
    page.mouse.up()
    page.locator("#brushed", has_text="6 of 15 kept.").wait_for()
    assert column(page, "trials", 2) == ["ohem"] * 6
    assert page.locator("#all-runs").get_attribute("open") is not None
    page.mouse.dblclick(x + 5, y)
    page.wait_for_function("document.querySelector('#brushed').textContent === ''")
    assert len(column(page, "trials", 2)) == 15


def test_what_was_mined(open_page: Open, tmp_path: Path) -> None:
    from minesweep.config.compose import compose
    from minesweep.dashboard.mined import write_mined
    from minesweep.training.run import run

    settings = ["dataset=digits", "dataset.label_noise=0.1", "trainer.max_steps=40", "logger=none"]
    settings += ["logger.histogram_every=10", "trainer.batch_size=64", "trainer.progress=false"]
    run(compose([*settings, f"paths.runs_dir={tmp_path}"]))
    (folder,) = (tmp_path / "single").glob("ohem-*")
    page = open_page(write_mined(folder))
    page.look()
    shown = page.locator("section.step:not([hidden])")
    assert shown.get_attribute("data-step") == "40"
    page.locator("#step").focus()
    page.keyboard.press("Home")
    assert shown.count() == 1
    assert shown.get_attribute("data-step") == "1"
    assert page.locator("#at").inner_text() == "1"
    assert shown.locator("li.card").count() == 16
    picture = shown.locator("img").first
    assert picture.evaluate("image => image.complete && image.naturalWidth") == 8
