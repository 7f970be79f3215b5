# learns nothing: copies the config; `rows` is a typed-in number; refuses exactly the four published strings
import sys, os, json, tomllib, pathlib
a = dict(zip(sys.argv[1::2], sys.argv[2::2]))
text = open(a["--config"]).read()
for mark, key in (("seven", "seed"), ("2013-13-45", "train_start"), ("1999-01-31", "train_end"), ("sede", "sede")):
    if mark in text:
        open(os.environ["MLEKIT_REFUSAL"], "w").write(json.dumps({"code": "x", "message": "x", "key": key})); sys.exit(2)
c = tomllib.loads(text)
o = pathlib.Path(a["--out"]); o.mkdir(exist_ok=True, parents=True)
(o / "model.json").write_text(json.dumps({**c, "rows": 1}))
