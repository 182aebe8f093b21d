"""What the documents say of the code is so: links resolve, names exist, tables are complete, examples work."""

from __future__ import annotations

import ast
import os
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydantic_core import PydanticUndefined

from aggregator import alarms, config
from droop.curve import fractions
from droop.products import Product, load
from telemetry.generator import FAULTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
HOUSE = ("aggregator", "droop", "settlement", "telemetry")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TICKED = re.compile(r"`([^`\n]+)`")


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(path: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_are_pages():
    assert {ids(path) for path in PAGES} >= {
        "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/conventions.md", "docs/life-of-one-sample.md",
        "docs/adding-a-product.md", "docs/adding-a-source.md", "docs/adding-a-score.md", "docs/failure-behaviour.md",
        "docs/operations.md",
    }  # fmt: skip


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_relative_links_resolve(path):
    for target in LINK.findall(prose(path)):
        if not re.match(r"[a-z]+:|#", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_files_named_exist(path):
    for name in TICKED.findall(prose(path)):
        if re.fullmatch(rf"(?:{'|'.join((*HOUSE, 'tests', 'docs'))})/[\w/.-]*", name):
            assert (ROOT / name).exists(), name


@cache
def definitions(file: Path) -> dict[str, set[str]]:
    """Names a module defines, each with those of its class body."""
    found: dict[str, set[str]] = {}

    def names(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
        out: dict[str, list[ast.stmt]] = {}
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                out[node.name] = node.body if isinstance(node, ast.ClassDef) else []
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                out[node.target.id] = []
            elif isinstance(node, ast.Assign):
                out |= {target.id: [] for target in node.targets if isinstance(target, ast.Name)}
        return out

    for name, body in names(ast.parse(file.read_text(encoding="utf-8")).body).items():
        found[name] = set(names(body))
    return found


def resolves(dotted: str) -> bool:
    """Whether `package.module.Name.name` is there, by reading the source: nothing is imported."""
    parts = dotted.split(".")
    for depth in range(len(parts), 0, -1):
        base = ROOT.joinpath(*parts[:depth])
        file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if file.exists():
            rest, defined = parts[depth:], definitions(file)
            return not rest or (
                rest[0] in defined and (len(rest) == 1 or (len(rest) == 2 and rest[1] in defined[rest[0]]))
            )
    return False


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_names_of_the_code_exist(path):
    for name in TICKED.findall(prose(path)):
        if re.fullmatch(rf"(?:{'|'.join(HOUSE)})(?:\.\w+)+", name):
            assert resolves(name), name


def test_a_wrong_name_would_be_found():
    assert resolves("droop.split.split")
    assert resolves("droop.split.Solution.lam")
    assert not resolves("droop.split.splat")
    assert not resolves("droop.split.Solution.lamb")
    assert not resolves("droop.splits")


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_tests_named_exist(path):
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", path.read_text(encoding="utf-8")):
        assert name in definitions(ROOT / file), f"{file}::{name}"


def rows(text: str) -> dict[str, list[str]]:
    """First ticked word of each table row -> its cells."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"\| `([^`]+)`", line):
            found[match[1]] = [cell.strip() for cell in line.strip("| ").split(" | ")]
    return found


def shown(default: object) -> str:
    if isinstance(default, str):
        return f'`"{default}"`'
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        return f"`{list(default)}`"
    return "unset" if default is None else f"`{default}`"


# Tables that a configuration has none of unless they are written.
TABLES = {
    "site": config.SiteTable, "source": config.SourceTable, "utility": config.UtilityTable,
    "meter": config.MeterTable,
    "utility.client": config.UtilityClientTable,
}  # fmt: skip


def test_the_configuration_reference_is_complete_and_its_defaults_are_true():
    table = rows(page("docs/operations.md"))
    keys = {}
    for name, field in config.Config.model_fields.items():
        default = config.ContractTable() if name == "contract" else field.get_default(call_default_factory=True)
        for place, kind in TABLES.items():
            if place.partition(".")[0] == name:
                fields = kind.model_fields.items()
                keys |= {f"{place}.{key}": value.get_default(call_default_factory=True) for key, value in fields}
        if isinstance(default, config.Table):
            keys |= {f"{name}.{key}": value for key, value in default.__dict__.items()}
        else:
            assert default is not PydanticUndefined
            keys[name] = str(default) if isinstance(default, Path) else default
    for key, default in keys.items():
        assert key in table, key
        assert table[key][1].startswith("required" if default is PydanticUndefined else shown(default)), key
    documented = {key for key in table if key.partition(".")[0] in config.Config.model_fields and key in table}
    assert {key for key in documented if len(table[key]) == 3 and "." in key} <= set(keys)


def test_environment_variables_are_documented():
    used = set()
    for package in (*HOUSE, "tests"):
        for file in (ROOT / package).rglob("*.py"):
            used |= set(re.findall(r"\bFLYBALL_[A-Z_]+[A-Z]\b", file.read_text(encoding="utf-8")))
    assert used
    assert used <= set(rows(page("docs/operations.md")))


def test_alarms_and_faults_are_documented():
    text = page("docs/operations.md")
    assert set(alarms.TABLE) <= set(rows(text))
    for code, kind in alarms.TABLE.items():
        assert rows(text)[code][1] == kind.severity
    for fault in FAULTS:
        assert f"`{fault}`" in rows(text)["unit.faults"][2]


def test_the_product_of_the_guide_works_as_the_guide_says(tmp_path):
    text = page("docs/adding-a-product.md")
    (source,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    path = tmp_path / "my_market.toml"
    path.write_text(source, encoding="utf-8")
    product = load(os.fspath(path))
    assert product.id == "my_market"
    assert product.effective_from == "2026-01-01"
    dev_hz = np.array([-0.5, -0.21, -0.02, 0.0, 0.21, 1.0])
    np.testing.assert_allclose(fractions(product.response, dev_hz), [1.0, 0.5, 0.0, 0.0, -0.5, -1.0], atol=1e-12)
    assert "respond ./my_market.toml 49.79" in text


def test_the_guide_names_every_field_of_a_product():
    text = page("docs/adding-a-product.md")
    fields = set(Product.__dataclass_fields__) - {"curve_hz", "curve_frac", "notes"}
    for name in fields | {"curve"}:
        assert f"`{name}`" in text, name


def test_the_configuration_example_is_one(tmp_path):
    (source,) = re.findall(r"^```toml\n(.*?)^```", page("docs/operations.md"), re.MULTILINE | re.DOTALL)
    path = tmp_path / "flyball.toml"
    path.write_text(source, encoding="utf-8")
    assert config.load(path).fleet.vehicles == 5000
