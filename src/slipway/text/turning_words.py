"""The words that turn a question into another one although hardly a letter changes: numbers and negations."""

from slipway.text.overlap import words

NEGATIONS = (
    "no not none never neither nor nothing nobody nowhere without except unless "
    "nicht nichts nie niemals kein keine keinem keinen keiner keines ohne weder außer "
    "pas jamais aucun aucune sans rien ni nunca ningún ninguna sin nada tampoco "
    "non mai nessun nessuna senza niente não nem nenhum nenhuma sem geen niet nooit zonder niets"
)
NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve hundred thousand million billion half first "
    "second third fourth fifth once twice "
    "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf hundert tausend erste zweite dritte "
    "deux trois quatre cinq sept huit neuf dix onze douze cent mille dos tres cuatro cinco siete ocho nueve diez "
    "due tre quattro cinque sei sette otto nove dieci dois três quatro sete oito dez"
)
TURNING = frozenset((NEGATIONS + " " + NUMBERS).split())


def turning_words(question: str) -> list[str]:
    """Its numbers and negations, sorted: questions of the same meaning have the same ones.

    Languages: English, German, French, Spanish, Italian, Portuguese, Dutch; digits in all.
    """
    found = ["not" if _contracted(word) else word for word in words(question)]
    return sorted(word for word in found if word in TURNING or any(map(str.isdigit, word)))


def _contracted(word: str) -> bool:
    return word == "cannot" or word.endswith(("n't", "n’t"))
