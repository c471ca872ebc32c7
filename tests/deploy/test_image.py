"""The container image: what it is made of, and that it answers a push.

The image is built with buildah on a stand-in for its base: Debian's own Python of the same version, tagged with the
name that the Dockerfile asks for. The real base, from a registry, is first met where the image is really built.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
import tomllib
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.parts.processes import BIN, ROOT, free_port, missing, reap, until
from tests.parts.service import Service, push_of

DOCKERFILE = (ROOT / "Dockerfile").read_text()
BASE = re.search(r"^FROM (\S+) AS service$", DOCKERFILE, re.MULTILINE).group(1)
TOOLS = ("apt-get", "buildah", "dpkg-deb", "unshare")
DEBIANS_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# A shell, what the shell starts, Python, and what wheels link to.
PACKAGES = ("base-files", "coreutils", "dash", "libc-bin", "libstdc++6", "python3")
NEVER = {"pip", "uv", "setuptools", "wheel", "hatchling", "pytest", "rich", "aiohttp", "lark", "xllamacpp"}


def test_the_dockerfile_passes_its_linter():
    """hadolint finds nothing, not even what is only a matter of style."""
    done = subprocess.run(
        [BIN / "hadolint", "--failure-threshold", "style", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_base_is_pinned():
    """Every stage starts from the same Python, by name and version, or from another stage."""
    bases = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
    assert bases == {BASE}
    assert re.fullmatch(r"python:3\.1[1-9](\.\d+)?-slim-\w+", BASE)


def test_what_the_builder_may_see_is_named_file_by_file():
    """.dockerignore lets in what is named and nothing else, and what is named exists."""
    first, *rest = (line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#"))
    allowed = {line[1:] for line in rest if line.startswith("!")}
    assert first == "*"
    locked = {f"requirements/{name}.txt" for name in ("build", "service", "uv")}
    assert allowed == {"LICENSE", "README.md", "gunicorn.conf.py", "handler", "main.py", "pyproject.toml"} | locked
    assert all((ROOT / name).exists() for name in allowed)
    assert [line for line in rest if not line.startswith("!")] == ["handler/local", "**/__pycache__"]


def test_the_command_is_the_one_that_is_tested():
    """One process manager, with the project's configuration."""
    command = json.loads(re.search(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE).group(1))
    assert command == ["gunicorn", "-c", "gunicorn.conf.py", 'functions_framework:create_app("handle","main.py")']


LABELS = dict(re.findall(r'org\.opencontainers\.image\.(\S+)="([^"]*)"', DOCKERFILE))


def test_its_labels_are_those_of_the_package():
    """What it is and under which licence, as pyproject.toml has it; the version is in one place, and so not here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    title, description, licences = project["name"], project["description"], project["license"]
    assert {"title": title, "description": description, "licenses": licences} == LABELS


# --- the built image


def normal(name):
    """A distribution's name as all its spellings have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Image:
    """A built image: its configuration, and its files in a directory."""

    def __init__(self, config, root):
        self.root = root
        self.user, self.directory, self.command = config["User"], config["WorkingDir"], config["Cmd"]
        self.health = config["Healthcheck"]["Test"]
        self.labels = config["Labels"]
        self.environment = dict(pair.split("=", 1) for pair in config["Env"])

    def run(self, command, environment, **options):
        """A child in the image as a strict platform starts it: its user, a read-only root, and a /tmp of its own.

        The mounts are in a namespace of the child's and end with it.
        """
        script = (
            'mount --rbind "$0" "$0" && mount --bind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/tmp" '
            '&& mount -o remount,bind,ro "$0" && exec chroot --userspec="$1" "$0" "${@:2}"'
        )
        environment = self.environment | environment
        start = ["/usr/bin/env", "-i", "-C", self.directory, *(f"{key}={value}" for key, value in environment.items())]
        return subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", script, str(self.root), self.user, *start, *command],
            text=True,
            **options,
        )

    def output(self, command, environment):
        """What a command in the image prints, and its exit code."""
        with self.run(command, environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
            return child.communicate(timeout=60)[0], child.returncode

    def distributions(self):
        """Name and version of everything that is installed beside the service."""
        found = {}
        for metadata in self.root.glob("opt/relay/lib/python3*/site-packages/*.dist-info/METADATA"):
            head = HeaderParser().parsestr(metadata.read_text())
            found[normal(head["Name"])] = head["Version"]
        return found


def mirror():
    """Where this machine has its own Debian packages from; None where they are not Debian's."""
    if not shutil.which("apt-get"):
        return None
    sources = make("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").splitlines()
    return next((one for one in sources if one.rstrip("/").endswith("/debian")), None)


def unpack(codename, directory, root):
    """Fill a directory with Debian packages and all that they need, unpacked and not configured.

    Not by debootstrap, which takes several times as long, most of it to work out by itself what apt knows.
    """
    for path in ("lists/partial", "cache/archives/partial"):
        (directory / path).mkdir(parents=True)
    (directory / "status").touch()  # so that nothing is installed yet
    (directory / "sources.list").write_text(f"deb [signed-by={DEBIANS_KEYS}] {mirror()} {codename} main\n")
    options = {
        "Dir::State": directory,
        "Dir::State::status": directory / "status",
        "Dir::Cache": directory / "cache",
        "Dir::Etc::sourcelist": directory / "sources.list",
        "Dir::Etc::sourceparts": "-",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",
        "APT::Update::Post-Invoke-Success": "",
    }
    apt = ["apt-get", "--quiet", *(f"--option={name}={value}" for name, value in options.items())]
    make(*apt, "update")
    make(*apt, "install", "--yes", "--no-install-recommends", "--download-only", *PACKAGES)
    for package in sorted((directory / "cache/archives").glob("*.deb")):
        make("dpkg-deb", "--extract", package, root)


def stand_in(root, scratch):
    """Fill a directory with a Python of the version that the real base has, laid out well enough for the build."""
    codename = BASE.rpartition("-")[2]
    unpack(codename, scratch, root)
    (minor,) = (path.name for path in (root / "usr/lib").glob("python3.*"))
    assert BASE.startswith(f"python:{minor.removeprefix('python')}-"), f"Debian {codename} has {minor}"
    (root / "usr/bin/python").symlink_to("python3")
    (root / f"usr/lib/{minor}/EXTERNALLY-MANAGED").unlink(missing_ok=True)
    packages = root / f"usr/local/lib/{minor}/dist-packages"
    make(BIN / "uv", "pip", "install", "--quiet", "--no-deps", "--target", packages, "pip")
    make("chroot", root, "python3", "-m", "compileall", "-q", f"/usr/lib/{minor}", packages.relative_to(root))
    # This machine may reach the package index through a proxy whose authority only it knows.
    authorities = os.environ.get("PIP_CERT") or ssl.get_default_verify_paths().cafile
    shutil.copy(authorities, root / "etc/authorities.pem")
    (root / "etc/pip.conf").write_text("[global]\ncert = /etc/authorities.pem\n")
    (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    (root / "etc/ssl/certs/ca-certificates.crt").symlink_to("/etc/authorities.pem")
    (root / "etc/uv").mkdir()
    (root / "etc/uv/uv.toml").write_text("native-tls = true\n")


def builder(store):
    """The command of buildah, with a store here: of layers that share files, where the kernel lets it, or of copies."""
    commands = [
        ["buildah", "--storage-driver", driver, "--root", store / driver, "--runroot", store / "run"]
        for driver in ("overlay", "vfs")
    ]
    return next(
        one for one in commands if subprocess.run([*one, "info"], capture_output=True, check=False).returncode == 0
    )


def make(*command):
    """Run one step; one that fails shows what it printed."""
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """The image, built from the Dockerfile as it is, in a store of its own that is removed afterwards."""
    lacking = [tool for tool in TOOLS if not shutil.which(tool)] or ["root"] * (os.geteuid() != 0)
    lacking += ["Debian"] * (mirror() is None or not DEBIANS_KEYS.exists())
    if lacking:
        missing(f"the image is not built: needs Debian, root, {', '.join(TOOLS)} (missing: {', '.join(lacking)})")
    store = tmp_path_factory.mktemp("images")
    buildah = builder(store)
    try:
        base = make(*buildah, "from", "scratch")
        stand_in(Path(make(*buildah, "mount", base)), store / "debian")
        make(*buildah, "commit", "--quiet", "--rm", base, f"localhost/{BASE}")
        make(*buildah, "bud", "--isolation", "chroot", "--pull-never", "--format", "docker", "--tag", "relay", ".")
        working = make(*buildah, "from", "--pull-never", "localhost/relay")
        inspected = json.loads(make(*buildah, "inspect", working))
        yield Image(inspected["Docker"]["config"], Path(make(*buildah, "mount", working)))
    finally:
        make(*buildah, "rm", "--all")
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        assert not [mount for mount in mounts if mount.startswith(str(store))]
        shutil.rmtree(store)


@pytest.mark.timeout(600)  # the first of these tests builds the image
def test_it_answers_a_push(image, local_topics, model):
    """With nothing but the settings in its environment it becomes ready, answers, and ends when it is told to."""
    port = free_port()
    settings = {
        "MODEL_URL": model.url,
        "RESPONSE_TOPIC": local_topics.topic("responses"),
        "PUBSUB_EMULATOR_HOST": local_topics.address,
        "PUSH_AUTH": "none",
        "PORT": str(port),
    }
    log = image.root.parent / "service.log"
    with log.open("w") as file:
        child = image.run(image.command, settings, stdout=file, stderr=subprocess.STDOUT)
    service = Service(f"http://127.0.0.1:{port}", child, log)
    try:
        until(lambda: child.poll() is not None or service.is_ready(), 60)
        assert child.poll() is None, service.output()
        user = Path(f"/proc/{child.pid}/status").read_text()
        assert re.search(r"^Uid:\t65532\t65532\t65532\t65532$", user, re.MULTILINE)
        assert re.search(r"^CapEff:\t0+$", user, re.MULTILINE)
        assert service.push(push_of({"metadata": {"id": 1}, "body": {"prompt": "hello"}})) == 204
        content, _, _ = local_topics.response()
        assert content == {"status_code": 200, "metadata": {"id": 1}, "body": {"echo": "hello"}}
        assert image.output(image.health[1:], settings) == ("", 0)
        assert image.output(image.health[1:], settings | {"PORT": str(free_port())})[1] != 0
    finally:
        child.terminate()
        reap(child)
    assert child.returncode == 0
    assert [line["reason"] for line in service.log()] == ["answered"]


@pytest.mark.timeout(600)
def test_it_says_what_is_wrong_with_its_settings(image):
    """Without settings it ends at once, with the line that names them."""
    output, code = image.output(image.command, {})
    assert code != 0
    assert "MODEL_URL is not set" in output
    assert "Traceback" not in output


@pytest.mark.timeout(600)
def test_it_brings_the_tools_of_an_operator_and_no_others(image):
    """`check` is there, the local stand-ins are not, and what is asked of them is said."""
    output, code = image.output(["inference-relay", "check"], {})
    assert code == 1, output
    assert "MODEL_URL is not set" in output
    output, code = image.output(["inference-relay", "local", "run"], {})
    assert code == 1, output
    assert "pip install 'inference-relay[local]'" in output


@pytest.mark.timeout(600)
def test_what_is_in_it(image):
    """The service and what it needs: no tests, stand-ins, build tools or package installer, and no way to write."""
    distributions = image.distributions()
    assert {"inference-relay", "gunicorn", "functions-framework"} <= distributions.keys()
    assert not NEVER & distributions.keys()
    files = {str(path.relative_to(image.root)) for path in image.root.rglob("*")}
    assert not [file for file in files if re.search(r"handler/local|/pip/__init__|^usr/bin/(gcc|cc|make|git)$", file)]
    assert not [file for file in files if file.startswith("src/")]
    names = {file.removeprefix("app/") for file in files if file.startswith("app/")}
    assert names == {"gunicorn.conf.py", "main.py", "sbom.cdx.json"}
    ours = [*(image.root / "app").rglob("*"), *(image.root / "opt").rglob("*")]
    assert not [path for path in ours if not path.is_symlink() and (path.stat().st_uid or path.stat().st_mode & 0o022)]


@pytest.mark.timeout(600)
def test_it_is_what_was_tested(image):
    """Each distribution in it has the version that requirements/ names, and nothing else is there."""
    found = image.distributions()
    assert found.pop("inference-relay")
    lines = (ROOT / "requirements/service.txt").read_text().splitlines()
    locked = [Requirement(line.rstrip(" \\")) for line in lines if line[0].isalnum()]
    environment = {"python_full_version": BASE.split(":")[1].partition("-")[0] + ".0", "extra": ""}
    wanted = [one for one in locked if not one.marker or one.marker.evaluate(environment)]
    assert found == {normal(one.name): str(one.specifier).removeprefix("==") for one in wanted}


@pytest.mark.timeout(600)
def test_its_bill_of_materials(image):
    """It names every distribution that is installed, and none that is not."""
    materials = json.loads((image.root / "app/sbom.cdx.json").read_text())
    named = {
        part["name"].lower().replace("_", "-").replace(".", "-"): part["version"] for part in materials["components"]
    }
    named["inference-relay"] = materials["metadata"]["component"]["version"]
    assert named == image.distributions()


@pytest.mark.timeout(600)
def test_the_labels_are_on_it(image):
    """A registry shows them."""
    assert {f"org.opencontainers.image.{name}": text for name, text in LABELS.items()}.items() <= image.labels.items()


@pytest.mark.timeout(600)
def test_the_user_has_a_number(image):
    """Kubernetes' runAsNonRoot cannot judge a name."""
    assert image.user == "65532:65532"
