"""An engine that runs its tasks in this process, one after the other."""

import contextlib
import importlib
import io

from robust_tf.engines import Ending


class InProcess:
    """As an engine of so many workers; `fails` are names of tasks that are killed first."""

    def __init__(self, workers, fails=()):
        self.workers, self.fails, self.ran = workers, fails, []

    def run(self, tasks, watch=lambda: None, ended=lambda task, ending: None):
        endings = {}
        for task in tasks:
            self.ran.append(task)
            text = io.StringIO()
            if task.name in self.fails:
                endings[task.name] = Ending(-9, "")
            else:
                with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                    status = importlib.import_module(task.module).main(list(task.arguments))
                endings[task.name] = Ending(status, text.getvalue())
            ended(task, endings[task.name])
            watch()
        return endings

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass
