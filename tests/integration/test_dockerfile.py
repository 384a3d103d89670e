"""C1, C2, C4: the image's recipe, carried out as far as this can be done without a container engine, and compose.yaml.

Every instruction that makes files is done in an empty folder: the absolute paths of the image become paths below it,
and a new virtual environment plays the Python of the base image. The rest is read and compared with the code.
"""

from __future__ import annotations

import copy
import fcntl
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from evals.catalogue import bundled_catalogue_text, load_catalogue
from server.operator.main import command_files
from server.settings import Settings, read_settings
from tests.service import Service, free_port

ROOT = Path(__file__).resolve().parents[2]
OWN = ("migrate", "api", "worker")


@dataclass(frozen=True)
class Instruction:
    """One line of the Dockerfile, its continuations joined."""

    word: str
    rest: str


@dataclass
class Stage:
    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [instruction.rest for instruction in self.instructions if instruction.word == word]


def read_dockerfile(text: str) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first stage, and the stages."""
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        assert word.isupper(), f"not an instruction: {line}"
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            stages.append(Stage(name or str(len(stages)), expand(image, arguments)))
        elif not stages:
            assert word == "ARG", f"{word} before the first FROM"
            name, _, default = rest.partition("=")
            arguments[name] = default
        else:
            stages[-1].instructions.append(Instruction(word, rest))
    return arguments, stages


def expand(text: str, values: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced, as the builder does."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values[match[1]], text)


ARGUMENTS, STAGES = read_dockerfile((ROOT / "Dockerfile").read_text())
BUILD, LAST = STAGES
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())


def _fresh_python(home: Path) -> Path:
    """What stands for the Python of the base image; to make one takes as long as ten copies."""
    made = home / "python"
    if not made.exists():
        subprocess.run([sys.executable, "-m", "venv", made], check=True, timeout=60)
    return made


class Image:
    """What carrying out a stage leaves in a folder."""

    def __init__(self, root: Path, *, arguments: dict[str, str], home: Path) -> None:
        root.mkdir()
        self.root = root
        self.arguments = arguments
        base = home / f"base-{root.name}"
        shutil.copytree(_fresh_python(home), base, symlinks=True)
        keep = ("SSL", "PIP", "HTTP", "http", "REQUESTS", "NO_PROXY", "LANG")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name.startswith(keep)},
            "PATH": f"{base / 'bin'}:{os.defpath}",
            "HOME": str(home),
            "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip")),
            # What a test imports is compiled then; all of it takes as long as installing it.
            "PIP_NO_COMPILE": "1",
        }
        self.folder = root

    def carry_out(self, stage: Stage, *, others: dict[str, Image]) -> Image:
        for instruction in stage.instructions:
            getattr(self, f"_do_{instruction.word.lower()}", self._skip)(instruction.rest, others)
        return self

    def below(self, text: str) -> str:
        """Absolute paths of the image, made paths below our folder."""
        return re.sub(r"(?<![\w./-])/(?=opt\b|src\b|tmp\b)", f"{self.root}/", text)

    def _skip(self, rest: str, others: dict[str, Image]) -> None:
        """USER, EXPOSE, HEALTHCHECK and the like make no files."""

    def _do_arg(self, rest: str, others: dict[str, Image]) -> None:
        name, _, default = rest.partition("=")
        self.environment[name] = self.arguments.get(name, default)

    def _do_env(self, rest: str, others: dict[str, Image]) -> None:
        for name, value in re.findall(r"(\w+)=(\S+)", rest):
            # The image keeps no cache; here one saves the registry the work.
            if name != "PIP_NO_CACHE_DIR":
                self.environment[name] = expand(self.below(value), self.environment)

    def _do_workdir(self, rest: str, others: dict[str, Image]) -> None:
        self.folder = Path(self.below(rest))
        self.folder.mkdir(parents=True, exist_ok=True)

    def _do_copy(self, rest: str, others: dict[str, Image]) -> None:
        *flags, source, target = rest.split()
        here = ROOT / source
        if flags:
            here = Path(others[flags[0].removeprefix("--from=")].below(source))
        there = self.folder / self.below(target)
        if here.is_dir():
            # What a stage has made is moved, not copied: nobody looks at it again, and its paths are in its files.
            if flags:
                there.parent.mkdir(parents=True, exist_ok=True)
                there.symlink_to(here)
            else:
                shutil.copytree(here, there, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(here, there)

    def _do_run(self, rest: str, others: dict[str, Image]) -> None:
        done = subprocess.run(
            ["/bin/sh", "-ec", self.below(rest)],
            check=False,
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"RUN {rest}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Made once for all test processes: it takes up to a minute."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (shared / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = shared / "image.pickle"
        if not made.exists():
            made.write_bytes(pickle.dumps(_make_image(tmp_path_factory.mktemp("image"))))
        found: Image = pickle.loads(made.read_bytes())  # noqa: S301 - what another process of this run wrote
        return found


def _make_image(home: Path) -> Image:
    """The last stage's folder, by the requirements of the service without litellm, which are quicker to install."""
    arguments = {"REQUIREMENTS": "server"}
    build = Image(home / "build", arguments=arguments, home=home).carry_out(BUILD, others={})
    return Image(home / "last", arguments=arguments, home=home).carry_out(LAST, others={BUILD.name: build})


def run_in(image: Image, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=image.environment, cwd=image.folder, capture_output=True, text=True, timeout=60, check=False
    )


def test_dockerfile__its_lines_make_a_command_that_starts(image: Image):
    # Found by the stage's own PATH, and so by its own interpreter.
    done = run_in(image, *json.loads(LAST.all("ENTRYPOINT")[0]), "--help")

    assert done.returncode == 0, done.stderr
    for command in ("api", "worker", "migrate", "account", "token"):
        assert f"\n  {command} " in done.stdout


def test_dockerfile__its_files_hold_all_that_api_and_worker_import(image: Image):
    done = run_in(
        image,
        "python",
        "-c",
        "import server.app, server.worker, server.services.demo, sys;"
        " from server.settings import read_settings; from evals.catalogue import bundled_catalogue_text;"
        " settings = read_settings(); bundled_catalogue_text();"
        " print(settings.host, settings.port, 'litellm' in sys.modules, server.__file__, sys.prefix)",
    )

    assert done.returncode == 0, done.stderr
    host, port, has_litellm, server_file, prefix = done.stdout.split()
    assert f"{host}:{port}" == "0.0.0.0:8100"
    assert has_litellm == "False"
    assert Path(server_file).is_relative_to(image.root / "opt/prpm/app")
    assert Path(prefix).resolve() == (image.root / "opt/prpm").resolve()


def test_dockerfile__C4_the_last_stage_installs_nothing_any_more(image: Image):
    done = run_in(image, "python", "-c", "import pip")
    base_python = next(
        Path(folder, "python") for folder in image.environment["PATH"].split(":") if Path(folder).name == "bin"
        and "base-" in folder
    )  # fmt: skip

    assert done.returncode != 0
    assert subprocess.run([base_python, "-c", "import pip"], capture_output=True, check=False).returncode != 0


def test_dockerfile__says_what_is_missing_in_a_sentence(image: Image):
    done = run_in(image, "prpm-testing", "api")

    assert done.returncode == 2
    assert "PRPM_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr


def test_dockerfile__C2_a_start_hook_ends_the_build(tmp_path: Path):
    check = ROOT / "deploy" / "check_start_hooks.py"
    packages = tmp_path / "lib" / "python3.11" / "site-packages"

    def code() -> int:
        return subprocess.run(
            [sys.executable, "-I", "-S", check, tmp_path], capture_output=True, check=False
        ).returncode

    assert code() == 1  # nothing to look at is no good sign
    packages.mkdir(parents=True)
    (packages / "good.py").write_text("")
    (tmp_path / "elsewhere.pth").write_text("")
    assert code() == 0
    for name in ("cook.pth", "sitecustomize.py", "usercustomize.pyc", "sitecustomize"):
        hook = packages / name
        hook.write_text("import os")
        assert code() == 1, name
        hook.unlink()
    assert code() == 0


def test_dockerfile__C1_a_changed_hash_is_refused(image: Image, tmp_path: Path):
    """The install line, with one digit of one hash changed."""
    install = next(run for run in BUILD.all("RUN") if "--require-hashes" in run)
    lines = (ROOT / "requirements" / "server.txt").read_text()
    entry = re.search(r"^idna==.*(?:\n    .*)+", lines, re.MULTILINE)
    assert entry is not None
    (tmp_path / "requirements").mkdir()
    bad = re.sub(r"sha256:(.)", lambda match: "sha256:" + ("0" if match[1] != "0" else "1"), entry[0])
    (tmp_path / "requirements" / "server.txt").write_text(bad.rstrip("\\ ") + "\n")
    target = tmp_path / "opt" / "prpm"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target], check=True, timeout=60)

    done = subprocess.run(
        ["/bin/sh", "-ec", install.replace("/opt/prpm", str(target)).replace("python -m", f"{sys.executable} -m", 1)],
        env={**os.environ, "REQUIREMENTS": "server"}, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_dockerfile__C4_installs_wheels_with_hashes_alone():
    installs = [run for stage in STAGES for run in stage.all("RUN") if " install " in run]

    assert len(installs) == 1
    assert "--require-hashes" in installs[0]
    assert "--only-binary :all:" in installs[0]
    assert "apt" not in " ".join(run for stage in STAGES for run in stage.all("RUN"))


def test_dockerfile__C4_pins_its_base_and_fetches_nothing_else():
    assert {stage.base for stage in STAGES} == {ARGUMENTS["PYTHON_IMAGE"]}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", ARGUMENTS["PYTHON_IMAGE"])
    assert [stage.all("ADD") for stage in STAGES] == [[], []]
    for run in (run for stage in STAGES for run in stage.all("RUN")):
        assert not re.search(r"\b(curl|wget|git|https?:)", run)


def test_dockerfile__C4_is_not_root_and_holds_no_secret():
    assert LAST.all("USER") == ["10001:10001"]
    after_user = LAST.instructions[[i.word for i in LAST.instructions].index("USER") + 1 :]
    assert {"RUN", "COPY", "USER"}.isdisjoint(i.word for i in after_user)
    for stage in STAGES:
        for rest in stage.all("ENV") + stage.all("ARG"):
            assert not re.search(r"KEY|SECRET|TOKEN|PASSWORD|_URL", rest), rest


def test_dockerfile__every_source_exists_and_is_let_in_by_dockerignore():
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    sources = [rest.split()[0] for rest in BUILD.all("COPY")]

    assert ignore[0] == "*"
    assert {line[1:] for line in ignore if line[0] == "!"} == set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert [rest.split()[0] for rest in LAST.all("COPY")] == [f"--from={BUILD.name}"]


def test_dockerfile__its_default_command_exists():
    assert json.loads(LAST.all("CMD")[0])[0] in dict(command_files())


def healthcheck(port: int) -> int:
    """Exit code of the image's health check, by the standard library alone."""
    command = json.loads(LAST.all("HEALTHCHECK")[0].partition("CMD ")[2])
    assert command[0] == "python"
    return subprocess.run(
        [sys.executable, "-S", *command[1:]],
        env={"PRPM_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}, capture_output=True, timeout=30, check=False,
    ).returncode  # fmt: skip


def test_dockerfile__healthcheck_knows_a_live_api_from_none(service: Service):
    assert healthcheck(int(service.url.rpartition(":")[2])) == 0
    assert healthcheck(free_port()) == 1


def test_dockerfile__its_files_migrate_a_database_and_serve_it(image: Image, dsn: str, redis_url: str):
    port = free_port()
    settings = {"PRPM_DATABASE_URL": dsn, "PRPM_REDIS_URL": redis_url, "PRPM_PORT": str(port), "PRPM_HOST": "127.0.0.1"}
    image = copy.copy(image)
    image.environment = {**image.environment, **settings}

    assert run_in(image, "prpm-testing", "migrate").stdout == "The schema is up to date.\n"
    with subprocess.Popen(
        ["prpm-testing", *json.loads(LAST.all("CMD")[0])],
        env=image.environment, cwd=image.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as api:  # fmt: skip
        try:
            deadline = time.monotonic() + 30
            while healthcheck(port) != 0:
                assert api.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            api.send_signal(getattr(signal, LAST.all("STOPSIGNAL")[0]))

    assert api.returncode == 0


def resolve(value: Any, environ: dict[str, str]) -> Any:
    """compose's variables replaced: `${NAME:?why}` must be there, `${NAME:-default}` may, `$$` is a dollar."""
    if isinstance(value, dict):
        return {name: resolve(inner, environ) for name, inner in value.items()}
    if isinstance(value, list):
        return [resolve(inner, environ) for inner in value]
    if not isinstance(value, str):
        return value

    def one(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, kind, rest = match[1], match[2], match[3]
        if kind == ":?" and not environ.get(name):
            raise KeyError(f"{name}: {rest}")
        return environ.get(name) or (rest if kind == ":-" else "")

    return re.sub(r"\$\$|\$\{(\w+)(:[?-])([^}]*)\}", one, value)


FILLED = {
    "POSTGRES_PASSWORD": "a" * 8,
    "VALKEY_PASSWORD": "b" * 8,
    "LITELLM_MASTER_KEY": "sk-" + "c" * 8,
    "LITELLM_IMAGE": "litellm@sha256:" + "d" * 64,
}
SERVICES: dict[str, Any] = resolve(COMPOSE["services"], FILLED)


@pytest.mark.parametrize("name", sorted(FILLED))
def test_compose__C4_nothing_starts_without_the_operators_own_secrets(name: str):
    with pytest.raises(KeyError, match=f"{name}: set {name} in .env"):
        resolve(COMPOSE["services"], {**FILLED, name: ""})


def test_compose__C4_no_secret_has_a_default():
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|KEY|SECRET|_URL", variable):
                literal = re.sub(r"\$\{\w+:(\?[^}]*|-)\}", "", value)
                assert not re.search(r"PASSWORD|KEY|SECRET", variable) or literal == "", f"{name}: {variable}={value}"
                assert not re.search(r"://[^@/]*[^@/:]@", literal), f"{name}: {variable}={value}"


@pytest.mark.parametrize("name", OWN)
def test_compose__our_commands_and_settings_exist(name: str):
    service = SERVICES[name]
    known = {f"PRPM_{field.name.upper()}" for field in msgspec.structs.fields(Settings)}

    assert service["image"] == "prpm-testing"
    assert service["command"][0] in dict(command_files())
    assert set(service["environment"]) <= known
    settings = read_settings(service["environment"])
    assert settings.require_database() == "postgresql://prpm:aaaaaaaa@postgres:5432/prpm"
    if name != "migrate":
        assert settings.require_redis() == "redis://:bbbbbbbb@valkey:6379/0"


def test_compose__only_the_image_of_this_folder_is_built_and_every_other_is_pinned():
    assert [name for name, service in SERVICES.items() if "build" in service] == ["migrate"]
    build = SERVICES["migrate"]["build"]
    assert (ROOT / build["context"] / "Dockerfile").is_file()
    assert (ROOT / "requirements" / f"{build['args']['REQUIREMENTS']}.txt").is_file()
    for name, service in SERVICES.items():
        if name not in OWN:
            tag = service["image"].rpartition("/")[2]
            assert re.search(r":\d|@sha256:", tag), service["image"]
            assert "latest" not in tag


def test_compose__schema_comes_before_api_and_workers():
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert not str(SERVICES["migrate"]["restart"]).startswith(("always", "unless"))
    for name in ("api", "worker"):
        waits = SERVICES[name]["depends_on"]
        assert waits["migrate"] == {"condition": "service_completed_successfully"}
        assert waits["valkey"] == {"condition": "service_healthy"}


def test_compose__workers_can_be_scaled():
    assert "container_name" not in SERVICES["worker"]
    assert "ports" not in SERVICES["worker"]
    assert SERVICES["worker"]["healthcheck"] == {"disable": True}


def test_compose__one_port_is_open_and_to_this_machine_alone():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports == {"api": [f"127.0.0.1:8100:{re.search('PRPM_PORT=([0-9]+)', LAST.all('ENV')[0])[1]}"]}


def test_compose__C4_nobody_is_root_or_may_become_it():
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert "privileged" not in service, name
        assert "cap_add" not in service, name
        assert service["read_only"] is (name != "litellm"), name
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", [])), name


def test_compose__data_lies_in_a_named_volume_and_every_network_and_file_exists():
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql/data"]
    assert "postgres" in COMPOSE["volumes"]
    for service in SERVICES.values():
        assert set(service["networks"]) <= set(COMPOSE["networks"])
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).is_file()
                assert volume.endswith(":ro")


def test_compose__vendors_keys_are_in_the_proxy_alone_and_stores_and_workers_reach_no_outside():
    vendors = set(re.findall(r"key_variable: (\w+)", bundled_catalogue_text()))
    assert vendors
    for name, service in SERVICES.items():
        if name != "litellm":
            assert vendors.isdisjoint(service.get("environment", {})), name
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "outside" in service["networks"]} == {"api", "litellm"}


def test_compose__the_proxy_answers_for_every_model_of_the_catalogue_as_the_catalogue_would():
    proxy = yaml.safe_load((ROOT / "deploy" / "litellm.yaml").read_text())
    catalogue = yaml.safe_load(bundled_catalogue_text())["models"]

    assert {
        entry["model_name"]: (entry["litellm_params"]["model"], entry["litellm_params"]["api_key"])
        for entry in proxy["model_list"]
    } == {
        entry["proxy_name"]: (
            entry["deployments"][0]["model"],
            f"os.environ/{entry['deployments'][0]['key_variable']}",
        )
        for entry in catalogue.values()
        if "proxy_name" in entry
    }
    given = set(SERVICES["litellm"]["environment"])
    assert {entry["litellm_params"]["api_key"].partition("/")[2] for entry in proxy["model_list"]} <= given
    assert proxy["general_settings"] == {"master_key": "os.environ/LITELLM_MASTER_KEY"}


def test_compose__with_the_proxy_every_one_of_its_models_is_reachable():
    settings = read_settings(SERVICES["worker"]["environment"])

    catalogue = load_catalogue(
        bundled_catalogue_text(),
        environ=SERVICES["worker"]["environment"],
        proxy_url=settings.litellm_proxy_url,
        proxy_key=settings.litellm_proxy_key,
    )

    assert [model.name for model in catalogue.describe() if not model.reachable] == []
