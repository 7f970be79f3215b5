"""Score a feature table with a logged model, in the submission's own environment and folder: python score.py JOB PROBLEM.

JOB is JSON: {"model": FOLDER, "features": FILE, "out": FILE}. What goes wrong is written to PROBLEM, a sentence in JSON; else it is empty.
"""

import json
import os
import sys

MOST, BEGIN = 600, 80  # characters that are told of what went wrong, and how many of them are its first


def main(job, problem):
    sys.path[0] = os.getcwd()  # as for `python -m`: a model may need modules of its submission
    import mlflow.pyfunc
    import pandas as pd

    with open(job, encoding="utf-8") as file:
        job = json.load(file)
    said = ""
    try:
        model = mlflow.pyfunc.load_model(job["model"])
        table = pd.read_parquet(job["features"])
        found = model.predict(table.drop(columns="row_id"))
        answer = pd.DataFrame({"row_id": table["row_id"], "probability": pd.Series(found["probability"]).to_numpy()})
        answer.to_parquet(job["out"], index=False)
    except Exception as wrong:
        text = str(wrong)  # MLflow begins with the table and ends with what is wrong with it
        said = f"{type(wrong).__name__}: {text if len(text) <= MOST else f'{text[:BEGIN]} ... {text[BEGIN - MOST :]}'}"
    with open(problem, "w", encoding="utf-8") as file:
        json.dump(said, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
