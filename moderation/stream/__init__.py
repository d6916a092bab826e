"""The release machine: what of an answer may go out, and when.

Rules of this folder
1. All state that a stream's decision depends on lives here. No clock, no I/O, no dialect, no policy but through Plan.
2. Frames go in (`feed`), with what the detectors saw (`settle`, `answer`); commands come out, to be carried out in order.
3. Text is committed in the order of the upstream's bytes, whenever answers arrive, so the result depends on the bytes alone.
4. INVARIANT: no code point goes out before every rule that could touch it has been decided, and none of a match that is edited.

A frame is one event of the upstream. It goes out whole, as its original bytes, once all its text may go; where its text was
changed, it is rewritten. `plan` holds the words, `tape` a growing text, `lane` what is decided about it, `gate` the frames,
`whole` the lanes that are held to the end, `release` the machine.
"""
