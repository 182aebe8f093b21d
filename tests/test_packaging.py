"""What ships is whole, and nothing is in the repository that should not be.

The words looked for are put together here, so that this file does not contain what it forbids.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata, resources
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
HOUSE = {"aggregator", "droop", "settlement", "telemetry"}

HOSTS = [".".join(parts) for parts in (
    ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("yarnpkg", "com"),
    ("deb", "debian", "org"), ("proxy", "golang", "org"), ("crates", "io"), ("jsdelivr", "net"), ("unpkg", "com"),
)]  # fmt: skip
FORBIDDEN = {
    "registry host": "|".join(re.escape(host) for host in HOSTS),
    "index option": r"--(?:extra-)?index-" + r"url\b|--find-" + r"links\b",
    "machine path": r"(?<![\w.{}$])/(?:root|wor" + r"k|home/\w+|Users/\w+)/\w|/tmp/" + r"\w",
    "unfinished": r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE" + " KEY-----",
    "access key": r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[abp]-[A-Za-z0-9-]{10,})\b",
    "secret in plain": r"(?i)\b(?:password|passwd|secret|api_key|token)\b\s*[:=]\s*[\"'][A-Za-z0-9+/_=-]{24,}[\"']",
}
BINARY = {".gz", ".parquet", ".png", ".ico", ".npz", ".npy"}


def tracked() -> list[Path]:
    """Files of the repository: committed, or about to be."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: the repository's files cannot be told from others")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    paths = [ROOT / name for name in listed.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_forbidden_is_in_the_repository(what):
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in tracked():
        if path.suffix in BINARY:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, "\n".join([f"{what}:", *found])


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("registry host", "from https://files." + HOSTS[1] + "/x"),
        ("index option", "--extra-" + "index-url https://example.org"),
        ("machine path", 'open("/ho' + 'me/ann/x.csv")'),
        ("machine path", "/wor" + "k/main"),
        ("unfinished", "# TO" + "DO: later"),
        ("private key", "-----BEGIN EC PRIVATE" + " KEY-----"),
        ("secret in plain", "to" + 'ken = "' + 30 * "a" + '"'),
    ],
)
def test_what_is_forbidden_would_be_found(what, line):
    assert re.search(FORBIDDEN[what], line)


def test_files_are_small_and_are_no_recordings():
    for path in tracked():
        assert path.stat().st_size < 1_000_000, path


def test_the_lock_file_holds_every_dependency_with_its_hashes():
    pins = re.findall(r"^([a-z0-9][a-z0-9.-]*)==\S+", LOCK, re.MULTILINE)
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in LOCK
    project, extras = PROJECT["project"], PROJECT["project"]["optional-dependencies"]
    wanted = [*project["dependencies"], *PROJECT["dependency-groups"]["build"]]
    for extra in ("iec61850", "fast", "test", "check"):
        wanted += extras[extra]
    for requirement in wanted:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name is not None
        assert re.sub(r"[-_.]+", "-", name[0]).lower() in pins, requirement


def test_what_builds_is_what_is_locked():
    assert PROJECT["build-system"]["requires"] == PROJECT["dependency-groups"]["build"]


def test_dependencies_have_both_bounds():
    for requirement in PROJECT["project"]["dependencies"]:
        bounds = requirement.partition(";")[0]
        if bounds.startswith("tzdata"):  # a table of zones by year: newer is truer
            continue
        assert ">=" in bounds, requirement
        assert "<" in bounds.replace("<=", ""), requirement


def test_the_version_is_the_changelogs():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["project"]["version"]
    python = PROJECT["project"]["requires-python"]
    assert (python, PROJECT["project"]["license"]) == (">=3.11,<3.14", "Apache-2.0")


def test_package_data_is_where_the_code_looks():
    catalogue = resources.files("droop").joinpath("catalogue")
    assert len([entry for entry in catalogue.iterdir() if entry.name.endswith(".toml")]) >= 7
    dashboard = resources.files("aggregator").joinpath("dashboard")
    assert {"index.html", "style.css", "app.js"} <= {entry.name for entry in dashboard.iterdir()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what is in the repository."""
    pytest.importorskip("pip", reason="pip is not installed here: no wheel can be built")
    setuptools = metadata.version("setuptools")
    if int(setuptools.partition(".")[0]) < 77:
        pytest.skip(f"setuptools {setuptools} cannot build the project: use the locked environment")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in tracked():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(out), str(source)], check=True, capture_output=True)
    (built,) = out.glob("flyball-*.whl")
    return built


def test_the_wheel_holds_the_house_and_its_data_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == HOUSE
    shipped = {path.relative_to(ROOT).as_posix() for path in tracked()}
    wanted = {name for name in shipped if name.partition("/")[0] in HOUSE}
    assert wanted == {name for name in names if ".dist-info/" not in name}


def test_an_installed_copy_finds_its_data_and_its_command(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    look = (
        "import droop, aggregator.cli; from droop.products import catalogue; from importlib.resources import files;"
        "print(droop.__file__, len(catalogue()), files('aggregator').joinpath('dashboard/index.html').is_file())"
    )
    told = subprocess.run(
        [sys.executable, "-c", look], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert Path(told[0]).is_relative_to(tmp_path)
    assert int(told[1]) >= 7
    assert told[2] == "True"
