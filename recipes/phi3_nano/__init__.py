"""The recipe of phi3-nano: text, tokenizer, training, score and model card, all made from one seed.

`python -m recipes.phi3_nano --out DIR` remakes the model; `python -m recipes.phi3_nano score DIR` measures one.
Order of the parts: grammar < sources < skills < chat < corpus < tokenizer < train < score < card.
"""
