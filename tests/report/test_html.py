"""The report's page: what is in the file, and what a browser makes of it."""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reported_runs import drawn_run, write_audit

from evonas.cli import main
from evonas.commands.report import reported_runs
from evonas.report import html
from evonas.report.html import require_charts
from evonas.report.page_data import page_data
from evonas.runs.folder import RunFolder
from evonas.search import read_journal

pytest.importorskip("altair")
pytest.importorskip("vl_convert")

EVIL = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
READY = "body[data-ready=yes]"


def page_of(path: Path) -> dict[str, Any]:
    """Data in the page, as a reader of HTML finds them."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', path.read_text())
    data: dict[str, Any] = json.loads(found)
    return data


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three methods; the first is audited, and all that it says of itself is an attack on the page."""
    root = tmp_path_factory.mktemp("runs")
    first = drawn_run(root / "<script>alert(1)<", 60, settings={"note": EVIL}, reason=EVIL)
    genomes = [entry.result.genome for entry in read_journal(first / "journal.jsonl")[1][:2]]
    write_audit(first, genomes, "<img src=x onerror='window.evil=1'>")
    return [first, drawn_run(root / "tam", 30, "tam-nas"), drawn_run(root / "cells", 20, "darts")]


@pytest.fixture(scope="module")
def report(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert main(["report", *map(str, folders), "--out", str(out)]) == 0
    return out


def test_images_without_a_limit_are_all_of_them(tmp_path: Path) -> None:
    few, every = drawn_run(tmp_path / "few", 3), drawn_run(tmp_path / "every", 3)
    config = json.loads((every / "config.json").read_text())
    config["measured"]["pgd_error"]["images"] = None
    (every / "config.json").write_text(json.dumps(config))
    (line,) = page_data(reported_runs([few, every]))["notes"]
    assert line == "pgd_error was measured differently: images is 100 in few and all in every."


@pytest.mark.lengthy
def test_every_network_of_every_run_is_on_the_page(report: Path, folders: list[Path]) -> None:
    found = page_of(report)
    keys = [entry.key for folder in folders for entry in read_journal(folder / "journal.jsonl")[1] if entry.result.ok]
    assert sorted(found["rows"]["id"]) == sorted(keys)
    assert [run["method"] for run in found["runs"]] == ["roco-nas", "tam-nas", "darts"]
    assert found["runs"][0]["failed"] == [[EVIL, 1]]
    compared, left, volume, alarm = found["runs"][0]["audited"]
    assert "Kendall's tau 0.75 [0.50, 0.90], 1 of 1 pairs" in compared
    assert (left, volume) == ("no network left the front", "hypervolume: 25.0% lost")
    assert alarm.startswith("ALARM")
    assert {row["weights"] for row in found["runs"][0]["audit"]} == {"search", "audit"}
    shares: dict[tuple[str, str], float] = {}
    for row in found["runs"][1]["choices"]:
        key = row["question"], row["part"]
        shares[key] = shares.get(key, 0) + row["share"]
    assert shares
    assert list(shares.values()) == pytest.approx([1] * len(shares))


@pytest.mark.lengthy
def test_the_page_asks_for_nothing_and_ends_no_script(report: Path) -> None:
    text = report.read_text()
    assert re.findall(r'(?:src|href)="?https?:', text) == []
    assert text.count("<script") == text.count("</script>") == 4
    assert "<script>alert(1)" not in text
    assert "default-src 'none'" in text


@pytest.mark.lengthy
def test_equal_runs_give_equal_pages(folders: list[Path], tmp_path: Path) -> None:
    from evonas.commands.report import reported_runs
    from evonas.report.html import report_page

    assert report_page(reported_runs(folders[1:])) == report_page(reported_runs(folders[1:]))


def test_a_watched_page_is_written_after_every_generation_until_the_search_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Time passes in steps: nothing new, a generation, the end."""
    folder = drawn_run(tmp_path / "run", 20)
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    later = drawn_run(tmp_path / "later", 40) / "journal.jsonl"
    lock = contextlib.ExitStack()
    lock.enter_context(RunFolder(folder).locked())
    watched: list[int] = []

    def step(seconds: float) -> None:
        watched.append(page_of(folder / "report.html")["watch"])
        if len(watched) == 2:
            journal.write_bytes(lines[0] + b"".join(later.read_bytes().splitlines(keepends=True)[1:]))
        if len(watched) == 3:
            lock.close()

    monkeypatch.setattr(time, "sleep", step)
    assert main(["report", str(folder), "--watch"]) == 0
    assert [line.split(", ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "20 evaluations",
        "40 evaluations",
        "40 evaluations",
    ]
    assert (watched, page_of(folder / "report.html")["watch"]) == ([10, 10, 10], 0)


@pytest.mark.parametrize(
    "content",
    [
        '{"changed": [1]}',
        '{"alarms": {"a": 1}}',
        '{"changed": {"columns": [1]}, "alarms": [], "images": 3}',
        "[]",
        "{",
        '{"alarms": [3]}',
    ],
)
def test_a_damaged_audit_is_refused_in_one_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = drawn_run(tmp_path / "run", 3)
    write_audit(folder, [entry.result.genome for entry in read_journal(folder / "journal.jsonl")[1][:1]])
    (folder / "audit.json").write_text(content)
    assert main(["report", str(folder)]) == 2
    said = capsys.readouterr()
    assert "audit.json" in said.err + said.out
    assert len((said.err + said.out).strip().splitlines()) == 1
    assert not (folder / "report.html").exists()


def test_a_run_without_a_network_has_a_page(tmp_path: Path) -> None:
    folder = drawn_run(tmp_path / "run", 0, reason="boom")
    assert main(["report", str(folder)]) == 0
    assert page_of(folder / "report.html")["rows"]["id"] == []


def test_a_missing_library_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "find_spec", lambda name: None)
    with pytest.raises(Exception, match=r"altair and vl-convert-python.*pip install 'evonas\[report\]'"):
        require_charts()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """A page in the browser, with all that it said and asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1400, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(READY, timeout=120_000)

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def run(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def slide(self, column: str, value: float) -> None:
        """Move a slider, and wait until the page has followed."""
        self.run("() => { delete document.body.dataset.filterMs; }")
        move = "([c, v]) => { const s = document.querySelector(`input[data-column=${c}]`); s.value = v;"
        self.run(move + " s.dispatchEvent(new Event('input')); }", [column, value])
        self.page.wait_for_selector("body[data-filter-ms]")


@pytest.fixture
def opened(browser: Any, report: Path) -> Iterator[Opened]:
    found = Opened(browser, report)
    yield found
    assert (found.said, [url for url in found.asked if not url.startswith(("file:", "data:", "blob:"))]) == ([], [])
    assert found.run("window.evil") is None
    found.context.close()


@pytest.mark.slow
def test_a_slider_filters_table_and_plot_together(opened: Opened, report: Path) -> None:
    rows = page_of(report)["rows"]
    limit = sorted(rows["clean_error"])[30]
    opened.slide("clean_error", limit)
    shown = float(f"{limit:.4g}")
    left = sum(error <= shown for error in rows["clean_error"])
    assert 25 < left < 35
    assert opened.text("#count").startswith(f"{left} of 110 networks")
    if opened.page.is_visible("#more"):
        opened.page.click("#more")
    assert opened.page.locator("#table tbody tr").count() == left
    assert "clean_error <= " in opened.text("#commands")
    opened.page.click("#reset")
    assert opened.text("#count").startswith("110 of 110 networks")


@pytest.mark.slow
def test_a_selection_is_drawn_with_its_costs_and_commands(opened: Opened, report: Path) -> None:
    rows = page_of(report)["rows"]
    opened.page.click("#table tbody tr >> nth=3")
    number = int(opened.page.get_attribute("#table tbody tr.chosen", "data-i"))
    assert opened.text("#chosen-id") == rows["id"][number]
    assert opened.page.locator("#drawing svg text").count() > 5
    assert f"{rows['id'][number]} --to net.onnx" in opened.text("#commands")
    opened.page.wait_for_timeout(600)
    opened.page.reload()
    opened.page.wait_for_selector(READY)
    assert opened.text("#chosen-id") == rows["id"][number]  # a page that is written anew keeps what is looked at


@pytest.mark.slow
def test_a_brush_in_one_chart_reaches_the_table(opened: Opened) -> None:
    box = opened.page.locator("#chart-xy canvas").bounding_box()
    opened.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.7 * box["height"], steps=4)
    opened.page.mouse.up()
    opened.page.wait_for_timeout(300)
    assert 0 < int(opened.run("document.body.dataset.left")) < 110


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone_scrolls_down_alone(browser: Any, report: Path, scheme: str) -> None:
    found = Opened(browser, report, 400, scheme)
    assert found.run("document.documentElement.scrollWidth") <= 400
    assert found.said == []
    colour = found.run("getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 28)")
    found.context.close()


@pytest.mark.slow
def test_audits_stand_beside_search_scores(opened: Opened) -> None:
    audit = opened.text("#audit")
    assert "Kendall's tau 0.75" in audit
    assert "noise beats PGD <img" in audit
    assert "failed" in audit


@pytest.mark.slow
def test_five_thousand_networks_are_filtered_in_a_moment(browser: Any, tmp_path: Path) -> None:
    """3 MB hold 1,000 networks; the least of several times says what the page needs on a busy machine."""
    sizes = {}
    for networks in (1000, 5000):
        out = tmp_path / f"{networks}.html"
        assert main(["report", str(drawn_run(tmp_path / str(networks), networks)), "--out", str(out)]) == 0
        sizes[networks] = out.stat().st_size
    assert sizes[1000] < 3e6
    found = Opened(browser, tmp_path / "5000.html")
    times = []
    for step in range(10):
        found.slide("clean_error", 0.9 - 0.05 * step)
        times.append(float(found.run("document.body.dataset.filterMs")))
    print(f"{sizes[1000]} and {sizes[5000]} bytes, {min(times)} to {max(times)} ms")
    assert min(times) < 100
    assert found.said == []


@pytest.mark.lengthy
def test_charts_are_files_without_a_browser(folders: list[Path], tmp_path: Path) -> None:
    from evonas.commands.report import reported_runs
    from evonas.report.chart_files import chart_specifications, write_charts

    runs = reported_runs(folders[1:2])
    names = [name for name, _ in chart_specifications(runs)]
    assert names[:5] == [
        "front-clean_error-macs",
        "front-clean_error-pgd_error",
        "front-macs-pgd_error",
        "lines",
        "history",
    ]
    specifications = dict(chart_specifications(runs))
    assert len(specifications["lines"]["datasets"]["rows"]) == 30 * 4
    write_charts(tmp_path, runs)
    assert (tmp_path / "history.svg").read_text().startswith("<svg")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")
