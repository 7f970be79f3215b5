"""The checks, one module a stage; each reads like the sentence it prints. `api` is what they are written with."""
