"""English words that carry no topic; a search and an overlap leave them out."""

WORDS = (
    "a an and are as at be been but by can could did do does for from had has have he her his how i if in into is it "
    "its may me my no not of on or our she should so such than that the their them then there these they this those "
    "to us was we were what when where which who whom whose why will with would you your s t"
)
STOP_WORDS = frozenset(WORDS.split())
