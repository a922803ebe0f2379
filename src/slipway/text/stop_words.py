"""Words that carry no topic; a search and an overlap leave them out: English ones, and of a question its language's."""

from functools import lru_cache

WORDS = (
    "a an and are as at be been but by can could did do does for from had has have he her his how i if in into is it "
    "its may me my no not of on or our she should so such than that the their them then there these they this those "
    "to us was we were what when where which who whom whose why will with would you your s t"
)
STOP_WORDS = frozenset(WORDS.split())
# Of each language those that are frequent in questions. Many are words of topic in English (`hat`, `war`, `son`), so
# they count only where a question is in that language.
LANGUAGES = {
    "German": (
        "aber alle als am an auch auf aus bei beim bekomme bin bis da damit darf das dass dem den der des dich die dir "
        "doch du durch ein eine einem einen einer eines er es etwas für gibt habe haben hat hätte ich ihm ihn ihr ihre "
        "im in ins ist ja kann kannst können könnte man mein meine meinem meinen meiner mich mir mit muss müssen nach "
        "nicht noch nur ob oder ohne sein seine sich sie sind so soll sollte über um und uns unser unsere unter viel "
        "viele vom von vor wann war waren warum was welche welchem welchen welcher welches wem wen wenn wer werde "
        "werden wie wieso wird wo worden wozu wurde wurden zu zum zur zwischen"
    ),
    "French": (
        "a ai au aux avec avez c ce ces cette ceux comment d dans de des dois doit du elle elles en est est-ce et être "
        "eu fait faire faut il ils j je l la le les leur lui m ma mais me mes moi mon n ne nos notre nous on ont ou où "
        "par pas peut peuvent peux pour pourquoi puis qu quand que quel quelle quelles quels qui quoi s sa sans se ses "
        "si son sont sur t te tu un une vos votre vous y"
    ),
    "Spanish": (
        "a al como cómo con cual cuál cuales cuáles cuando cuándo cuanto cuánto cuantos cuántos cuánta cuántas de debe "
        "debo del donde dónde e el él ella en entre era es esta está este esto están fue ha hace han hay la las le lo "
        "los más me mi mis muy no nos o para pero por porque puede puedo que qué quien quién se sea ser si sin sobre "
        "son su sus te tiene tengo un una uno unos y ya yo"
    ),
    "Italian": (
        "a ad ai al alla alle anche c che chi ci come con cosa cui da dal dalla degli dei del della delle devo di dove "
        "e è fa gli ha hanno ho i il in io l la le lo ma mi mio nei nel nella non o per perché più possiamo posso può "
        "qual quale quali quando quanti quanto si sono su sul sulla suo tra un una uno"
    ),
    "Portuguese": (
        "a ao aos as às até com como da das de devo do dos e é ela ele em entre era essa esse esta está este eu foi há "
        "isso já mais mas me meu minha na não nas no nos o onde os ou para pela pelo pode podemos por porque posso "
        "qual quais quando quanto quantos que quem se sem ser seu sua são também te tem tenho um uma você"
    ),
    "Dutch": (
        "aan al als bij dan dat de deze die dit door een en er ge geen haar had heb hebben heeft hem het hij hoe ik in "
        "is je kan kunnen maar me met mijn moet mogen naar niet nog of om onder ons ook op over te tot u uit van voor "
        "waar waarom wanneer was wat we welk welke werd wie wij worden wordt zal ze zijn zonder zou"
    ),
    "Arabic": (
        "أن أو أي أين إذا إلى إن التي الذي بعد بين تلك ثم حتى ذلك على عن عند عندما في قبل قد كان كانت كل كم كيف لا لم "
        "لن لماذا له لها ما ماذا متى مع من منذ هذا هذه هل هو هي و يكون يمكن يجب"
    ),
    "Chinese": (
        "的 了 是 吗 呢 吧 么 什 怎 哪 样 我 你 您 他 她 在 和 与 或 及 也 就 都 被 把 这 那 个 为 以 可 有 之 多 少 "
        "几 谁 要 能"
    ),
    "Japanese": "は が の を に で と も へ や か ね よ た だ て る す い な ま せ ん れ さ し こ そ あ ど く",
}
BY_LANGUAGE = {language: frozenset(words.split()) for language, words in LANGUAGES.items()}
FEWEST = 2
"""Stop words of a language that a question must hold to be in it."""


def stop_words_of(words: tuple[str, ...]) -> frozenset[str]:
    """The English stop words, and where a question holds more of another language's, those as well."""
    return _stop_words_of(frozenset(words))


@lru_cache(maxsize=1024)
def _stop_words_of(words: frozenset[str]) -> frozenset[str]:
    english = len(words & STOP_WORDS)
    counts = {language: len(words & known) for language, known in BY_LANGUAGE.items()}
    language = max(counts, key=lambda language: counts[language])
    if counts[language] < FEWEST or counts[language] <= english:
        return STOP_WORDS
    return STOP_WORDS | BY_LANGUAGE[language]
