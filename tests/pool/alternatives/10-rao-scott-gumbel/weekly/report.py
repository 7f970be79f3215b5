"""A page for people, with plotly's script in it."""

from html import escape

import plotly.graph_objects as go

FLAGS = ("data", "prediction", "performance", "model_age", "skew")


def page(week, reference, decision, scores):
    rows = "".join(
        f'<tr><td>{name.replace("_", " ")}</td><td><span data-mlekit="{name}">{escape(decision[name])}</span></td></tr>' for name in FLAGS
    )
    for name in ("columns", "skewed"):
        rows += f'<tr><td>{name}</td><td><span data-mlekit="{name}">{escape(", ".join(decision[name]))}</span></td></tr>'
    every = {**scores["data"], **scores["prediction"], **scores["performance"]}
    names = sorted(every, key=every.get)
    figure = go.Figure(go.Bar(x=[min(every[n], 10) for n in names], y=names, orientation="h"))
    figure.add_vline(1, line_dash="dot")
    figure.update_layout(title="log p, as a share of what an alarm takes", height=120 + 24 * len(names), width=900)
    plot = figure.to_html(full_html=False, include_plotlyjs=True)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(week.name)}</title></head><body>'
        f"<h1>{escape(week.name)}</h1><p>{week.n} rows, {week.labelled} of them with labels</p><table>{rows}</table>{plot}</body></html>"
    )
