"""MLflow runs this file to get the model: it is logged as code, with the numbers beside it."""

import json

import mlflow
import pandas as pd

from airport.model import Binned


class Served(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        with open(context.artifacts["numbers"], encoding="utf-8") as file:
            kept = json.load(file)
        self.late = Binned()
        self.late.cuts, self.late.weights = kept["cuts"], kept["weights"]

    def predict(self, model_input, params=None):
        return pd.DataFrame({"probability": self.late.probability(model_input)})


mlflow.models.set_model(Served())
