"""The page that one opens in the morning: one night in figures, pictures and plain sentences.

`figures` and `unfinished` read, `sentences` and `reasons` word, `charts` draws, `page` puts it
together. Nothing here changes a row, and no value of a person gets onto the page: contacts appear
by id, with the companies that they left and joined.
"""
