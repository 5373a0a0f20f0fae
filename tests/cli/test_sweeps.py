"""The command lines of sweeps: grids, files, shares, tables and figures, and what is refused."""

import json

import pandas as pd
import pytest

import mechmem as mm
from mechmem.cli.main import main

TINY = ["--p", "7", "--width", "8", "--steps", "3", "--engine", "inline"]
FILE = """
out = "swept"
measure = ["raw", "ipr"]
engine = "inline"

[train]
p = 7
width = 8
betas = [0.9, 0.99]
weight-decay = 1

[grid]
steps = [3]
label_noise = "0:0.2:0.2"
tied = [true]
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty directory, in which every test works."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, *arguments, status=2):
    """The one line that a refused command prints."""
    assert main(list(arguments)) == status
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("mechmem: ") and not captured.out
    return lines[0].removeprefix("mechmem: ")


def printed(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_grid_from_options_is_a_table_and_the_same_command_does_nothing_again(here, capsys):
    line = ["sweep", *TINY, "--grid", "label-noise=0:0.3:0.3", "--grid", "seed=0,1", "--measure", "raw", "ipr"]
    assert main([*line, "--out", "s", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    made = {path: path.stat().st_mtime_ns for path in here.glob("s/measurements/*/*.json")}
    assert len(made) == 8
    assert main([*line, "--out", "s", "--json"]) == 0
    found = printed(capsys)
    assert (found["sweep"], found["cells"], found["failed"], len(found["rows"])) == ("s", 4, 0, 8)
    assert found["rows"][0]["label_noise"] == 0.0 and found["rows"][0]["measurement"] == "raw"
    assert made == {path: path.stat().st_mtime_ns for path in here.glob("s/measurements/*/*.json")}
    assert main([*line, "--out", "s"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].split()[:2] == ["label_noise", "seed"]
    assert captured.out.splitlines()[-1] == "Table: s/table.parquet" and captured.err == ""
    assert len(pd.read_parquet("s/table.parquet")) == 8


def test_without_measurements_the_networks_are_only_trained(capsys):
    assert main(["sweep", *TINY, "--grid", "seed=0:1", "--measure", "none", "--out", "s", "--quiet"]) == 0
    assert mm.load_sweep("s").to_frame().empty and len(mm.load_sweep("s").cells.frame()) == 2


def test_a_failed_cell_is_exit_status_1_and_one_line(capsys):
    said = refused(
        capsys, "sweep", *TINY, "--grid", "lr=0.001,1e30", "--measure", "raw", "--out", "s", "--quiet", status=1
    )
    assert said.startswith("1 of 2 cells failed, run ") and "The same command tries them again" in said
    assert main(["sweep", *TINY, "--grid", "lr=0.001,1e30", "--measure", "raw", "--out", "s", "--json"]) == 1
    assert printed(capsys)["failed"] == 1


def test_tasks_of_an_array_do_their_parts(capsys):
    line = ["sweep", *TINY[:-2], "--grid", "seed=0:2", "--out", "s"]
    assert main([*line, "--array", "1/2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Share 1/2 is done"
    assert mm.load_sweep("s").to_frame()["reason"].tolist() == ["not done yet", "", "not done yet"]
    assert main([*line, "--array", "2/2", "--quiet"]) == 0
    assert mm.load_sweep("s").to_frame()["reason"].tolist() == ["", "", ""]


@pytest.mark.slow
def test_a_file_is_what_its_options_are(capsys):
    with open("s.toml", "w") as file:
        file.write(FILE)
    assert main(["sweep", "s.toml", "--quiet"]) == 0
    options = ["--betas", "0.9", "0.99", "--weight-decay", "1"]
    grid = ["--grid", "steps=3", "label_noise=0,0.2", "tied=true"]
    line = ["sweep", *TINY[:4], *TINY[-2:], *options, *grid, "--measure", "raw", "ipr"]
    assert main([*line, "--quiet", "--out", "options"]) == 0
    assert mm.load_sweep("swept").to_frame().equals(mm.load_sweep("options").to_frame())
    # The command line goes before the file.
    assert main(["sweep", "s.toml", "--out", "other", "--measure", "raw", "--grid", "seed=4", "--quiet"]) == 0
    assert mm.load_sweep("other").to_frame()["seed"].tolist() == [4]
    assert not mm.load_sweep("other").to_frame()["measurement"].tolist().count("ipr")


@pytest.mark.slow
def test_images_by_options_and_by_a_file(capsys):
    tiny = {"train": 60, "test": 40, "steps": 3, "batch-size": 30}
    options = [word for name, value in tiny.items() for word in (f"--{name}", str(value))]
    line = ["sweep-images", "digits", *options, "--engine", "inline", "--quiet"]
    assert main([*line, "--grid", "label_noise=0,0.5", "--out", "s"]) == 0
    table = "\n".join(f"{name} = {value}" for name, value in tiny.items())
    with open("s.toml", "w") as file:
        file.write(f'out = "t"\nengine = "inline"\n[train-images]\ndata = "digits"\n{table}\n')
        file.write("[grid]\nlabel-noise = [0.0, 0.5]\n")
    assert main(["sweep", "s.toml", "--quiet"]) == 0
    assert mm.load_sweep("s").to_frame().equals(mm.load_sweep("t").to_frame())
    assert mm.load_sweep("s").to_frame()["value"].notna().all()


def test_the_table_and_its_figure(here, capsys):
    assert main(["sweep", *TINY[2:], "--grid", "p=5,7", "seed=0:1", "--quiet", "--out", "s"]) == 0
    assert main(["sweep-table", "s", "--json"]) == 0
    assert len(printed(capsys)["rows"]) == 4
    assert main(["sweep-table", "s", "--x", "p", "--y", "raw:train_clean", "--out", "f.html"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:2] == ["p", "seed"] and out[-1] == "Written: f.html"
    assert "train clean accuracy" in (here / "f.html").read_text()
    assert main(["sweep-table", "s", "--out", "f.csv", "--quiet"]) == 0
    assert len(pd.read_csv("f.csv")) == 4
    # Seeds alone are drawn along x.
    assert main(["sweep", *TINY, "--grid", "seed=0:1", "--quiet", "--out", "seeds"]) == 0
    assert main(["sweep-table", "seeds", "--out", "f.html", "--quiet"]) == 0


BAD = [
    ("", "--out is missing"),
    ("--out s --grid seed", "--grid takes name=values, e.g. label_noise=0.1,0.3, got 'seed'"),
    ("--out s --grid =1", "--grid takes name=values"),
    ("--out s --grid seed=", "a value is missing"),
    ("--out s --grid sed=1", "no setting 'sed'. Did you mean 'seed'"),
    ("--out s --grid out=a,b", "no setting 'out'"),
    ("--out s --grid seed=a", "grid: seed must be a whole number, got 'a'"),
    ("--out s --grid seed=1.5", "grid: seed must be a whole number, got 1.5"),
    ("--out s --grid tied=yes", "grid: tied must be true or false, got 'yes'"),
    ("--out s --grid lr=nan", "grid: lr must be a number, got 'nan'"),
    ("--out s --grid model=mlp,foo", "grid: model must be one of mlp, transformer, got 'foo'"),
    ("--out s --grid op=add,foo", "grid: op=foo: no operation 'foo'"),
    ("--out s --grid betas=0.9", "grid: betas takes several values at once: a list in a file, or in mm.sweep"),
    ("--out s --grid seed=1 seed=2", "grid: seed is given twice"),
    ("--out s --grid seed=1,1", "two cells are the same training"),
    ("--out s --grid d_model=8", "grid: d_model=8: --d-model is an option of --model transformer"),
    (
        "--out s --grid label_noise=0.1 --label-noise 0.2",
        "label_noise is set for all cells, and varied by the grid too",
    ),
    ("--out s --group S5 --p 7", "--p belongs to residues mod p, not to --group S5"),
    ("--out s --measure raww", "no measurement 'raww'. Did you mean 'raw'"),
    ("--out s --measure raw raw", "'raw' is given twice"),
    ("--out s --measure none raw", "--measure none is to train only"),
    ("--out s --engine locl", "no engine 'locl'. Did you mean 'local'"),
    ("--out s --workers 0", "number of workers must be a whole number of at least 1, got 0"),
    ("--out s --engine-settings a", "--engine-settings takes name=value"),
    ("--out s --engine-settings a=1", "no setting of engine 'local' 'a'"),
    ("--out s --engine slurm --engine-settings cluster=local", "needs the number of workers"),
    ("--out s --array 3", "--array takes i/n, e.g. 0/8, got '3'"),
    ("--out s --array 3/2", "a share is i/n"),
    ("--out s --array 1/2 --engine dask", "leave out engine 'dask'"),
    ("--out s --device cuda:99", "device 'cuda:99' cannot be used here"),
    ("--out mine", "mine holds something else"),
    ("missing.toml", "cannot read missing.toml: "),
    ("mine", "cannot read mine: it is not a regular file"),
]


@pytest.mark.parametrize(("line", "why"), BAD)
def test_a_line_that_cannot_be_meant_is_refused_in_one_line(line, why, here, capsys):
    (here / "mine").mkdir()
    (here / "mine" / "thesis.tex").write_text("")
    assert why in refused(capsys, "sweep", *line.split())
    assert [path.name for path in here.iterdir()] == ["mine"]


OUT = 'out = "s"\n'
FILES = [
    ("x", "is no TOML"),
    ("a = 1", "no key of s.toml 'a'"),
    ("[train]\np = 7", "--out is missing"),
    (OUT + 'out = "t"', "is no TOML"),
    ("out = 3", "s.toml: out must be a word, got 3"),
    ('out = ""', "s.toml: out must be a word, got ''"),
    (OUT + "engine = 3", "s.toml: engine must be a word, got 3"),
    (OUT + 'engine = "locl"', "no engine 'locl'"),
    (OUT + "device = []", "s.toml: device must be a word"),
    (OUT + 'workers = "2"', "s.toml: workers must be a whole number, got '2'"),
    (OUT + "workers = true", "s.toml: workers must be a whole number, got True"),
    (OUT + "workers = 0", "number of workers must be a whole number of at least 1"),
    (OUT + "measure = 3", "s.toml: measure must be a name or a list of names, got 3"),
    (OUT + "measure = [3]", "s.toml: measure must be a name or a list of names"),
    (OUT + 'measure = ["raww"]', "no measurement 'raww'"),
    (OUT + "engine-settings = 3", "s.toml: engine-settings must be a table, [engine-settings]"),
    (OUT + "[engine-settings]\na = [[1]]", "s.toml: a must be a value, or a list of values"),
    (OUT + "train = 3", "s.toml: train must be a table, [train]"),
    (OUT + "[train]\n[train-images]", "s.toml has [train] and [train-images]: leave one of them out"),
    (OUT + "[train]\nq = 7", "no setting of [train] 'q'"),
    (OUT + '[train]\nout = "t"', "no setting of [train] 'out'"),
    (OUT + '[train]\nfile = "t"', "no setting of [train] 'file'"),
    (OUT + '[train]\np = "7"', "s.toml: p must be a whole number, got '7'"),
    (OUT + "[train]\np = true", "s.toml: p must be a whole number, got True"),
    (OUT + "[train]\np = [7, 11]", "s.toml: p must be a whole number, got [7, 11]"),
    (OUT + "[train]\nlr = 'a'", "s.toml: lr must be a number, got 'a'"),
    (OUT + "[train]\ntied = 'yes'", "s.toml: tied must be true or false, got 'yes'"),
    (OUT + "[train]\nmodel = 'foo'", "s.toml: model must be one of mlp, transformer, got 'foo'"),
    (OUT + "[train]\nop = 'foo'", "no operation 'foo'"),
    (OUT + "[train]\nop = 1979-05-27", "s.toml: op must be a word, got "),
    (OUT + "[train]\nbetas = 0.9", "s.toml: betas takes several values at once: a list in a file"),
    (OUT + "[train]\nbetas = [0.9]", "betas"),
    (OUT + "[train]\nbetas = ['a', 'b']", "s.toml: betas must be a number, got 'a'"),
    (OUT + "[train]\nleft-out = [1.5]", "s.toml: left-out must be a whole number, got 1.5"),
    (OUT + "[train]\nd-model = 8", "--d-model is an option of --model transformer"),
    (OUT + "[train-images]\nsteps = 3", 's.toml: [train-images] has no data, e.g. data = "digits"'),
    (OUT + "[train-images]\ndata = 'digits'\np = 7", "no setting of [train-images] 'p'"),
    (OUT + "grid = 3", "s.toml: grid must be a table, [grid]"),
    (OUT + "[grid]\nfoo = [1]", "no setting 'foo'"),
    (OUT + "[grid]\nseed = []", "s.toml: seed must be a value, or a list of values, got []"),
    (OUT + "[grid]\nseed = [[1], [2]]", "s.toml: seed must be a value, or a list of values"),
    (OUT + "[grid]\nseed = {a = 1}", "s.toml: seed must be a value, or a list of values"),
    (OUT + "[grid]\nseed = ''", "a value is missing"),
    (OUT + "[grid]\nseed = '0:1:0'", "has no value"),
    (OUT + "[grid]\nseed = 1979-05-27", "s.toml: seed must be a value, or a list of values"),
]


@pytest.mark.parametrize(("text", "why"), FILES)
def test_a_file_that_cannot_be_meant_is_refused_in_one_line(text, why, here, capsys):
    (here / "s.toml").write_text(text)
    assert why in refused(capsys, "sweep", "s.toml")
    assert [path.name for path in here.iterdir()] == ["s.toml"]


def test_a_file_of_bytes_and_options_of_the_other_kind_are_refused(here, capsys):
    (here / "s.toml").write_bytes(b"\xff\xfe")
    assert "s.toml is no TOML" in refused(capsys, "sweep", "s.toml")
    (here / "s.toml").write_text('out = "s"\n[train-images]\ndata = "digits"\n')
    said = refused(capsys, "sweep", "s.toml", "--p", "7")
    assert said == "--p is no option of train-images, which s.toml sweeps"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("missing", "missing holds no sweep: it has no sweep.json"),
        ("s --x foo", "no setting 'foo'"),
        ("s --x raw", "no setting 'raw'"),
        ("s --y foo", "no setting or measurement 'foo'"),
        ("s --y raw:foo", "no quantity of 'raw' 'foo'"),
        ("s --x seed --y seed", "x, y and color must be different"),
        ("s --y seed --color p", "there is no setting left for x"),
        ("s --x seed --y p --color p", "x, y and color must be different"),
        ("s --out f.xyz", "--out must end in .svg"),
    ],
)
def test_a_figure_that_cannot_be_meant_is_refused_in_one_line(line, why, two, here, capsys):
    (here / "s").symlink_to(two)
    assert why in refused(capsys, "sweep-table", *line.split())
    assert [path.name for path in here.iterdir()] == ["s"]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A sweep over two settings."""
    out = tmp_path_factory.mktemp("two") / "s"
    assert main(["sweep", *TINY[2:], "--grid", "p=5,7", "seed=0:1", "--quiet", "--out", str(out)]) == 0
    return out
