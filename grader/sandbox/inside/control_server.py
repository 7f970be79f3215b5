"""The calibration service: takes the body of a prediction request and answers at once; what a service does is measured against it.

python control_server.py PORT
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict


class Row(BaseModel):
    model_config = ConfigDict(extra="allow")
    row_id: str


class Question(BaseModel):
    rows: list[Row]


app = FastAPI()


@app.get("/healthz")
async def alive():
    return {}


@app.post("/v1/predict")
async def predict(question: Question):
    answers = [{"row_id": row.row_id, "probability": 0.5} for row in question.rows]
    return {"request_id": "control", "model_version": "0", "predictions": answers}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
