"""The languages that Whisper knows, and other names that data sets use for them."""

from collections.abc import Mapping
from types import MappingProxyType

from trimask.errors import UserError

_NAMES = """
en=english zh=chinese de=german es=spanish ru=russian ko=korean fr=french ja=japanese pt=portuguese
tr=turkish pl=polish ca=catalan nl=dutch ar=arabic sv=swedish it=italian id=indonesian hi=hindi
fi=finnish vi=vietnamese he=hebrew uk=ukrainian el=greek ms=malay cs=czech ro=romanian da=danish
hu=hungarian ta=tamil no=norwegian th=thai ur=urdu hr=croatian bg=bulgarian lt=lithuanian la=latin
mi=maori ml=malayalam cy=welsh sk=slovak te=telugu fa=persian lv=latvian bn=bengali sr=serbian
az=azerbaijani sl=slovenian kn=kannada et=estonian mk=macedonian br=breton eu=basque is=icelandic
hy=armenian ne=nepali mn=mongolian bs=bosnian kk=kazakh sq=albanian sw=swahili gl=galician mr=marathi
pa=punjabi si=sinhala km=khmer sn=shona yo=yoruba so=somali af=afrikaans oc=occitan ka=georgian
be=belarusian tg=tajik sd=sindhi gu=gujarati am=amharic yi=yiddish lo=lao uz=uzbek fo=faroese
ht=haitian_creole ps=pashto tk=turkmen nn=nynorsk mt=maltese sa=sanskrit lb=luxembourgish my=myanmar
bo=tibetan tl=tagalog mg=malagasy as=assamese tt=tatar haw=hawaiian ln=lingala ha=hausa ba=bashkir
jw=javanese su=sundanese yue=cantonese
"""
LANGUAGES: Mapping[str, str] = MappingProxyType(
    {code: name.replace("_", " ") for code, _, name in (each.partition("=") for each in _NAMES.split())}
)
"""Code -> English name."""

# Whisper's code -> other codes in data sets (ISO 639-3, retired codes, related languages written alike).
_ALIASES = """
en=eng de=deu,ger fr=fra,fre es=spa ru=rus hi=hin ar=ara,arb he=heb,iw ta=tam th=tha ja=jpn ko=kor pt=por
it=ita nl=nld,dut pl=pol tr=tur vi=vie uk=ukr zh=zho,cmn no=nb,nob,nor tl=fil id=in,ind jw=jv,jav
"""
_OTHERS = {
    name: code
    for code, _, names in (each.partition("=") for each in _ALIASES.split())
    for name in names.split(",")
}
DEFAULT = "en"


def whisper_language(name: str) -> str:
    """Return Whisper's code for a language code (`de`, `pt-BR`, `zh_CN`, `deu`) or English name.

    Raises:
        UserError: Whisper does not know the language; the message lists those that it knows.
    """
    word = name.strip().lower().replace("_", "-")
    by_name = {known: code for code, known in LANGUAGES.items()}
    for tried in (word, word.partition("-")[0]):
        code = _OTHERS.get(tried, tried)
        if code in LANGUAGES:
            return code
    if word.replace("-", " ") in by_name:
        return by_name[word.replace("-", " ")]
    raise UserError(f"the recognizer does not know language {name!r}: choose one of {', '.join(LANGUAGES)}")
