"""The Colab notebook, cell by cell in IPython, on the demo data with the programs of this build.

Usage: test_notebook.py BUILD_FOLDER, which is `build` of the source tree. Needs IPython.
"""
import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

from IPython.core.interactiveshell import InteractiveShell

from run_files import read_metrics, run_folder

BUILD = pathlib.Path(sys.argv.pop(1)).absolute()
NOTEBOOK = BUILD.parent / "notebooks/rodeo.ipynb"
SMALL = "--arch_width 4 --epochs 2 --threads 1 --device cpu"
SMALL_DATA = ("demo_data --out", "demo_data --classes 3 --per_class 12 --out")


def code_cells():
    """{title: source} in order."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return {source.splitlines()[0].removeprefix("#@title "): source for source in sources}


def with_settings(source, settings):
    """The cell of settings as the user fills it in."""
    for name, value in settings.items():
        source, count = re.subn(rf"^{name} = \S+(?=  #@param)", f"{name} = {value!r}", source, flags=re.M)
        assert count == 1, name
    return source


class NotebookTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="rodeo-notebook-"))
        (self.folder / "rodeo").symlink_to(BUILD.parent)
        self.before = os.getcwd()
        os.chdir(self.folder)
        self.shell = InteractiveShell()

    def tearDown(self):
        os.chdir(self.before)
        shutil.rmtree(self.folder)

    def run_all(self, **settings):
        """Runs the cells up to the first that fails: (its title or None, the error, all output)."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            for title, source in code_cells().items():
                if title == "Settings":
                    source = with_settings(source, settings)
                source = source.replace(*SMALL_DATA)
                result = self.shell.run_cell(source)
                if not result.success:
                    return title, str(result.error_in_exec or result.error_before_exec), output.getvalue()
        return None, "", output.getvalue()

    def test_run_all_again_goes_on_and_changes_nothing(self):
        logdir = "my runs"
        failed, error, output = self.run_all(LOGDIR=logdir, OPTIONS=SMALL)
        self.assertIsNone(failed, error + output)
        run = run_folder(logdir)
        metrics = read_metrics(run)
        self.assertEqual([line["epoch"] for line in metrics], [1, 2])
        written = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
        for wanted in ("curves.png", "evaluation/target-confusion.png", "export/rgb_trunk.safetensors"):
            self.assertIn(wanted, written)
        failed, error, output = self.run_all(LOGDIR=logdir, OPTIONS=SMALL)
        self.assertIsNone(failed, error + output)
        self.assertEqual(read_metrics(run), metrics)

    def test_it_stops_at_what_fails_and_says_so(self):
        missing = str(self.folder / "no such data")
        failed, error, _ = self.run_all(DATA=missing)
        self.assertEqual(failed, "Drive")
        self.assertIn(missing, error)
        failed, error, output = self.run_all(OPTIONS="--epochs none")
        self.assertEqual(failed, "Train")
        self.assertIn("The training failed", error)
        self.assertIn("--epochs", output)
        (self.folder / "rodeo").unlink()
        failed, error, _ = self.run_all()
        self.assertEqual(failed, "Build")
        self.assertIn("REPOSITORY", error)
        failed, error, _ = self.run_all(REPOSITORY=str(self.folder / "no such repository"))
        self.assertEqual(failed, "Build")
        self.assertIn("could not be cloned", error)


if __name__ == "__main__":
    unittest.main()
