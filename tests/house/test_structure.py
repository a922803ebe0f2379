"""The rules of the house that no linter knows: first lines, names, floors, what may be imported when."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "slipway"
MODULES = sorted(SOURCE.rglob("*.py"))

# Packages that cost time or memory to import: they are loaded by the function that uses them.
HEAVY = {"accelerate", "datasets", "peft", "ray", "safetensors", "tokenizers", "torch", "transformers", "trl", "vllm"}
# A backend is loaded only when it is named, so these may stand at the top of one (its folder holds `base.py`).
HEAVY_OUTSIDE_BACKENDS = {"genai_prices", "pypdfium2", "selectolax"}
# A drawer for everything ends up holding everything.
DRAWERS = {"base_utils", "common", "helper", "helpers", "misc", "shared", "tools", "util", "utils"}


def shown(module: Path) -> str:
    return module.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_a_module_opens_with_a_sentence_that_says_what_it_is_for(module: Path) -> None:
    opening = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    assert opening, f"{shown(module)} has no docstring"
    sentence = opening.split("\n")[0].strip()
    assert sentence.endswith((".", "?")), f"{shown(module)} opens with half a sentence: {sentence!r}"


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = [shown(path) for path in [*SOURCE.rglob("*"), *(ROOT / "tests").rglob("*")] if path.stem in DRAWERS]
    assert drawers == []


# A migration is one list of tables, however long.
READ = [module for module in MODULES if module.parent.name != "versions"]


@pytest.mark.parametrize("module", READ, ids=shown)
def test_a_function_can_be_read_on_two_screens(module: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [f"{f.name}: {f.end_lineno - f.lineno} lines" for f in functions if f.end_lineno - f.lineno > 100] == []


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_path_or_a_host_of_one_machine() -> None:
    # Spelled backwards, so that this file does not hold what it looks for.
    backwards = [
        "/krow/",
        "/toor/",
        "sleehw/tpo/",
        "ipyp/tpo/",
        "/mraf/",
        "detsohnohtyp.selif",
        "sjmpn.yrtsiger",
        "naibed.bed",
    ]
    words = [word[::-1] for word in backwards]
    forbidden = re.compile("|".join(re.escape(word) for word in words))
    found: list[str] = []
    for file in tracked_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{shown(file)}: {hit.group(0)}" for hit in forbidden.finditer(text)]
    assert found == []


def imports_at_import_time(module: Path) -> Iterator[str]:
    """Top-level packages that are imported when the module is, leaving out `if TYPE_CHECKING`."""
    waiting: list[ast.stmt] = list(ast.parse(module.read_text(encoding="utf-8")).body)
    while waiting:
        statement = waiting.pop()
        match statement:
            case ast.Import():
                yield from (name.name.split(".")[0] for name in statement.names)
            case ast.ImportFrom(module=str(name), level=0):
                yield name.split(".")[0]
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                waiting += statement.orelse
            case ast.If() | ast.Try() | ast.With() | ast.ClassDef():
                waiting += [
                    child for child in ast.walk(statement) if isinstance(child, ast.stmt) and child is not statement
                ]
            case _:
                pass


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_a_heavy_package_is_loaded_when_it_is_used_and_not_before(module: Path) -> None:
    is_backend = (module.parent / "base.py").exists() and module.name != "base.py"
    too_early = HEAVY if is_backend else HEAVY | HEAVY_OUTSIDE_BACKENDS
    assert set(imports_at_import_time(module)) & too_early == set()


def test_every_room_with_a_stage_name_has_its_own_folder_and_chapter() -> None:
    from slipway.stages import STAGES

    missing = [f"src/slipway/{stage}/" for stage in STAGES if not (SOURCE / stage).is_dir()]
    missing += [f"docs/{stage}.md" for stage in STAGES if not (ROOT / "docs" / f"{stage}.md").is_file()]
    missing += [f"tests/{stage}/" for stage in STAGES if not (ROOT / "tests" / stage).is_dir()]
    missing += [f"src/slipway/cli/{stage}.py" for stage in STAGES if not (SOURCE / "cli" / f"{stage}.py").is_file()]
    assert missing == []


def test_importing_slipway_loads_nothing_outside_the_standard_library() -> None:
    code = "import sys; before = set(sys.modules); import slipway; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    foreign = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"slipway"}
    assert foreign == set()


def locked(name: str) -> dict[str, list[str]]:
    """Versions by package of one lock."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines():
        if pin := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", line):
            pins.setdefault(pin[1].lower(), []).append(pin[2])
    return pins


@pytest.mark.parametrize("name", ["base.lock", "local.lock", "dev.lock", "train.lock"])
def test_no_lock_installs_torch_or_cuda(name: str) -> None:
    dragged = [
        package for package in locked(name) if package == "torch" or package.startswith(("nvidia", "cuda", "triton"))
    ]
    assert dragged == []


@pytest.mark.parametrize(
    ("wider", "narrower"),
    [
        pytest.param("local.lock", "base.lock", id="what the demo installs holds the base"),
        pytest.param("dev.lock", "local.lock", id="what the tests install holds what the demo installs"),
        pytest.param("train.lock", "local.lock", id="training holds what the demo installs"),
    ],
)
def test_a_wider_lock_holds_the_narrower_one_at_the_same_versions(wider: str, narrower: str) -> None:
    wide, narrow = locked(wider), locked(narrower)
    assert {package: wide.get(package) for package in narrow} == narrow


def test_the_locks_meet_the_bounds_of_pyproject() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [("base.lock", line) for line in project["project"]["dependencies"]]
    wanted += [("dev.lock", line) for line in project["dependency-groups"]["dev"]]
    wanted += [("train.lock", line) for line in project["project"]["optional-dependencies"]["train"]]
    unmet: list[str] = []
    for lock, line in wanted:
        requirement = Requirement(line)
        versions = locked(lock).get(canonicalize_name(requirement.name), [])
        if not versions or not all(version in requirement.specifier for version in versions):
            unmet.append(f"{lock}: {line} but locked {versions}. Run: make lock")
    assert unmet == []


def test_the_version_stands_once() -> None:
    import slipway

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert slipway.__version__ == project["version"]
    assert f"## [{project['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
