"""Names and texts in many scripts: small pools, written for this project, of which the demo's rows are made."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import pyarrow as pa

from data.demo.times import Numbers

EMOJI = ("👩‍💻", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🎉", "👍🏽", "☕️", "🇺🇦", "❤️‍🔥")
_SENTENCES = 240  # a language: enough for variety, small enough to be built in a moment


@dataclass(frozen=True, slots=True)
class Language:
    """How one language's names and sentences are made. `share` is relative to the others'."""

    code: str
    share: float
    given: str
    family: str
    clauses: tuple[str, ...]
    comma: str = ", "
    stop: str = "."
    family_first: bool = False
    between: str = " "

    def names(self) -> list[str]:
        """Every given name with every family name; one in 25 wears an emoji."""
        pairs = product(self.given.split(), self.family.split())
        plain = [self.between.join((f, g) if self.family_first else (g, f)) for g, f in pairs]
        return [f"{name} {EMOJI[i % len(EMOJI)]}" if i % 25 == 24 else name for i, name in enumerate(plain)]

    def titles(self) -> list[str]:
        return [_capital(clause) for clause in self.clauses]

    def sentences(self) -> list[str]:
        """One to three clauses each; one sentence in twelve ends with an emoji."""
        rng = np.random.default_rng(len(self.clauses))
        picks = [rng.permutation(len(self.clauses))[: rng.integers(1, 4)] for _ in range(_SENTENCES)]
        made = [_capital(self.comma.join(self.clauses[i] for i in pick)) + self.stop for pick in picks]
        return [f"{text} {EMOJI[i % len(EMOJI)]}" if i % 12 == 11 else text for i, text in enumerate(made)]


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


LANGUAGES = (
    Language("en", 30, "Ada Grace Linus Margaret Alan Barbara Frances", "Hill Baker O’Brien Young Marsh Cole Ames", (
        "the first release is out", "we moved the meeting to Thursday", "nobody read the manual", "coffee helps",
        "the garden is full of bees", "it rained all week", "here are my notes", "a short list of good books",
        "thanks for all the answers", "we counted twice", "the train was late again", "what would you do differently")),
    Language("fr", 8, "Zoë Hélène François Chloé Rémi Anaïs", "Lefèvre Noël Gauthier Bérard Mallet Prévost", (
        "le marché ouvre à huit heures", "nous avons tout recommencé", "voilà une idée simple", "la mer était calme",
        "personne n’a répondu", "merci à tous", "ça marche enfin", "un café s’il vous plaît")),
    Language("cs", 5, "Jiří Žaneta Tomáš Eliška Ondřej Šárka", "Dvořák Němcová Růžička Kučera Havlíčková Veselý", (
        "dnes svítí slunce", "příští týden začínáme", "všechno běží jak má", "četl jsem dobrou knihu",
        "děkuji za pomoc", "zítra přijde déšť", "nová verze je venku")),
    Language("tr", 6, "Çağla Deniz Göksel Şule Umut Özge", "Yılmaz Gündoğdu Çelik Özdemir Şahin Kılıç", (
        "bugün hava güzel", "yarın görüşürüz", "kahve hazır", "bu soruyu kim sordu", "her şey yolunda",
        "yeni sürüm çıktı", "çok teşekkürler")),
    Language("vi", 5, "Anh Thảo Minh Hương Đức Tuyết", "Nguyễn Trần Phạm Hoàng Đặng Bùi", (
        "hôm nay trời đẹp", "chúng tôi đã thử lại", "cảm ơn mọi người", "quán cà phê mới mở cửa",
        "câu hỏi này rất hay", "phiên bản mới đã có"), family_first=True),
    Language("ru", 8, "Ольга Фёдор Наталья Пётр Ксения Андрей", "Соловьёва Морозов Зайцева Орлов Щербакова Лебедев", (
        "сегодня вышла новая версия", "поезд опять опоздал", "спасибо за ответы", "мы всё проверили дважды",
        "в саду цветут яблони", "встреча перенесена на четверг", "кто пробовал иначе")),
    Language("el", 4, "Ελένη Γιώργος Σοφία Νίκος Δάφνη Ίων", "Παπαδάκη Ιωάννου Μακρής Νικολάου Ζέρβας Οικονόμου", (
        "σήμερα έχει ήλιο", "η νέα έκδοση είναι έτοιμη", "ευχαριστώ για τη βοήθεια", "το πλοίο άργησε πάλι",
        "μια απλή ιδέα", "διαβάσαμε όλες τις απαντήσεις")),
    Language("ar", 6, "ليلى يوسف مريم كريم هدى سامي", "الحداد منصور النجار خليل العلي درويش", (
        "الطقس جميل اليوم", "صدرت النسخة الجديدة", "شكرا على المساعدة", "تأخر القطار مرة أخرى",
        "هذه فكرة بسيطة", "قرأنا كل الأجوبة"), comma="، "),
    Language("he", 4, "נועה דוד תמר יונתן שירה אורי", "לוי כהן מזרחי פרץ ברק שלום", (
        "היום יום יפה", "הגרסה החדשה מוכנה", "תודה על העזרה", "הרכבת שוב איחרה", "זה רעיון פשוט",
        "קראנו את כל התשובות")),
    Language("hi", 7, "अनन्या राहुल प्रिया विक्रम मीरा अर्जुन", "शर्मा वर्मा गुप्ता सिंह जोशी मेहता", (
        "आज मौसम अच्छा है", "नया संस्करण आ गया", "मदद के लिए धन्यवाद", "ट्रेन फिर देर से आई", "यह एक सरल विचार है",
        "हमने सब कुछ दो बार जाँचा"), stop="।"),
    Language("zh", 8, "小明 丽华 建国 雪梅 志强 文静", "王 李 张 陈 欧阳 林", (
        "今天天气很好", "新版本已经发布", "谢谢大家的帮助", "火车又晚点了", "这是一个简单的想法", "我们检查了两遍",
        "花园里开满了花"), comma="，", stop="。", family_first=True, between=""),
    Language("ja", 6, "さくら 健太 陽子 大輔 美咲 カレン", "佐藤 鈴木 高橋 田中 渡辺 小林", (
        "今日は天気がいい", "新しいバージョンが出ました", "手伝ってくれてありがとう", "電車がまた遅れた",
        "簡単な考えです", "二回確認しました", "ガーデンに花が咲いた"),
        comma="、", stop="。", family_first=True, between=""),
    Language("ko", 5, "지우 서연 민준 하은 도윤 예린", "김 이 박 최 정 한", (
        "오늘은 날씨가 좋다", "새 버전이 나왔다", "도와줘서 고마워요", "기차가 또 늦었다", "간단한 생각입니다",
        "두 번 확인했어요"), family_first=True, between=""),
)  # fmt: skip

HANDLES = (
    "ada", "mira", "yusuf", "olga", "kenji", "linh", "noa", "priya", "sora", "emre", "zofia", "jonas", "aiko", "dmitri",
    "leila", "tomas", "hana", "omar", "ines", "paul",
)  # fmt: skip
DOMAINS = ("example.com", "example.org", "example.net", "mail.example.com", "post.example", "почта.example")


@dataclass(frozen=True, slots=True)
class Pool:
    """Texts of every language end to end: those of language i are rows starts[i] … starts[i] + sizes[i]."""

    texts: pa.Array
    starts: Numbers
    sizes: Numbers

    def pick(self, languages: Numbers, rng: np.random.Generator) -> pa.Array:
        """One text for each entry, in that language (an index into LANGUAGES)."""
        return self.texts.take(pa.array(self.starts[languages] + rng.integers(0, self.sizes[languages])))


@cache
def pool(what: str) -> Pool:
    """`names`, `titles` or `sentences`, in NFC: only the planned dirt may differ from what cleaning leaves."""
    lists: list[list[str]] = [getattr(language, what)() for language in LANGUAGES]
    sizes = np.array([len(texts) for texts in lists])
    texts = [unicodedata.normalize("NFC", text) for texts in lists for text in texts]
    return Pool(pa.array(texts, pa.string()), np.cumsum(sizes) - sizes, sizes)


def pick_languages(count: int, rng: np.random.Generator) -> Numbers:
    """Indices into LANGUAGES, by their shares."""
    shares = np.cumsum([language.share for language in LANGUAGES])
    languages: Numbers = np.searchsorted(shares, rng.random(count) * shares[-1], side="right")
    return languages
