"""What every language of the world can speak of: concepts, named by an English gloss, and which go with
which.

Notable: selectional restrictions live here (who can do what to what), so a masked word is predictable from
its neighbours. A concept's place in its list is its frequency rank (Zipf) and, modulo `DOMAINS`, its topic.
"""

DOMAINS = 6

NOUNS: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "person": (
            "child farmer teacher doctor soldier merchant king neighbour student sailor smith queen baker"
            " hunter judge painter singer guest servant priest widow thief shepherd fisher miller weaver"
        ),
        "animal": "dog horse bird cat cow fish sheep wolf goat bear fox hen mouse duck",
        "food": "bread meat apple milk cheese soup egg honey cake onion salt rice",
        "thing": "table knife box boat lamp key chair wagon cup rope wheel basket bell hammer mirror drum",
        "text": "book letter story song picture map message poem law report",
        "cloth": "coat shoe hat shirt ring belt glove",
        "building": (
            "house school market church shop farm bridge castle tower mill theatre prison station library"
        ),
        "nature": "river road field forest sea mountain garden tree island lake valley hill stone flower",
        "idea": "work war peace question truth plan answer hope price game dream danger debt secret",
        "weather": "rain wind snow storm sun fire",
        "group": "family village town army crowd",
        "institute": "company bank university council union museum factory team party",
    }.items()
}

ADJECTIVES: dict[str, tuple[str, ...]] = {
    gloss: tuple(classes.split(","))
    for gloss, classes in (
        entry.split(":")
        for entry in [
            "old:person,animal,building,thing,text,cloth,group,institute",
            "big:animal,building,nature,thing,group,institute,idea",
            "new:building,thing,text,cloth,idea,institute",
            "small:animal,building,nature,thing,food,group,person",
            "young:person,animal",
            "good:person,food,text,idea,institute",
            "red:thing,cloth,food,nature",
            "bad:person,food,idea,text,weather",
            "long:nature,text,thing,idea,weather",
            "rich:person,group,institute",
            "white:animal,thing,cloth,nature,building",
            "poor:person,group",
            "black:animal,thing,cloth,nature",
            "strong:person,animal,weather,building",
            "cold:weather,nature,food",
            "beautiful:person,nature,text,building,cloth",
            "hot:weather,food",
            "happy:person,group,animal",
            "high:nature,building",
            "heavy:thing,cloth,weather",
            "green:nature,thing,cloth",
            "sad:person,text",
            "clever:person,animal,idea",
            "deep:nature,idea",
            "brave:person,animal,group",
            "fresh:food,nature",
            "famous:person,building,text,institute",
            "empty:building,thing,nature",
            "sweet:food",
            "wild:animal,nature,weather",
            "hungry:person,animal",
            "tired:person,animal",
            "warm:cloth,weather,food",
            "hidden:text,idea",
            "broken:thing,building",
            "honest:person,idea",
            "quiet:nature,person,building",
            "thin:cloth,animal,person",
            "important:idea,text,person",
            "lazy:person,animal",
            "dry:nature,food,cloth",
            "wooden:building,thing",
            "golden:thing,cloth",
            "true:idea,text",
            "lost:thing,animal,text,cloth",
            "angry:person,animal,group",
            "cheap:food,thing,cloth",
            "dark:nature,building,weather",
            "sharp:thing",
            "strange:text,idea,person",
        ]
    )
}

INTRANSITIVE: dict[str, tuple[str, ...]] = {
    gloss: tuple(classes.split(","))
    for gloss, classes in (
        entry.split(":")
        for entry in [
            "sleep:person,animal",
            "walk:person,animal",
            "come:person,animal,weather",
            "run:person,animal",
            "wait:person,group",
            "fall:thing,building,weather,food",
            "work.v:person,institute",
            "grow:nature,group,idea,institute",
            "laugh:person",
            "sing:person,animal",
            "burn:building,nature",
            "begin.i:idea,weather",
            "stop:weather,idea,group",
            "swim:animal,person",
            "shine:weather,thing",
            "cry:person,animal",
            "dance:person",
            "disappear:thing,animal,idea,text",
            "rest:person,animal,group",
            "die:person,animal,nature",
            "fly:animal",
        ]
    )
}

TRANSITIVE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    gloss: (tuple(frame.split(">")[0].split(",")), tuple(frame.split(">")[1].split(",")))
    for gloss, frame in (
        entry.split(":")
        for entry in [
            "see:person,animal>person,animal,building,nature,thing",
            "eat:person,animal>food",
            "buy:person,institute>thing,food,cloth,animal,building",
            "find:person,animal>thing,text,animal,cloth,food",
            "read:person>text",
            "build:person,institute,group>building",
            "write:person>text",
            "know:person>person,text,idea",
            "love:person>person,animal,nature,idea",
            "help:person,group>person,group",
            "sell:person,institute>thing,food,animal,cloth",
            "carry:person,animal>thing,food,text",
            "open:person>building,thing",
            "wear:person>cloth",
            "follow:person,animal>person,animal,nature",
            "hear:person,animal>text,animal,weather,idea",
            "lose:person,group>thing,cloth,idea,animal",
            "need:person,group,institute>idea,food,thing",
            "cook:person>food",
            "watch:person,animal>animal,nature,person",
            "close:person>building,thing",
            "chase:animal>animal,person",
            "hate:person,group>person,idea,weather",
            "paint:person>building,picture,thing",
            "repair:person>thing,building",
            "steal:person,animal>food,thing,cloth,text",
            "cover:weather>nature,building",
            "forget:person>text,idea,person",
            "break:person,weather>thing",
            "drink:person,animal>drinkable",
            "destroy:weather,group>building,nature,institute",
            "cut:person>nature,food",
            "hide:person>text,thing,cloth",
            "wash:person>cloth,animal,thing",
            "protect:group,person,building>person,building,group",
            "praise:person,group>person,text,idea",
            "fear:person,animal,group>weather,animal,idea",
            "call:person>person,animal",
            "cross:person,group,animal>nature,crossable",
            "plan.v:institute,group>idea,building",
        ]
    )
}
EXTRA_CLASSES: dict[str, tuple[str, ...]] = {
    "drinkable": ("milk", "soup"),
    "picture": ("picture", "map"),
    "crossable": ("bridge", "road"),
}

DITRANSITIVE: dict[str, tuple[str, ...]] = {
    gloss: tuple(classes.split(","))
    for gloss, classes in (
        entry.split(":")
        for entry in [
            "give:thing,food,animal,cloth,text",
            "show:text,thing,nature,building",
            "send:text,thing,food",
            "bring:food,thing,cloth",
            "tell:text,idea",
            "offer:food,idea,thing",
            "lend:thing,text,cloth,animal",
            "promise:idea,thing,animal",
        ]
    )
}
SAYING = ("say", "think", "hope.v", "believe", "learn", "doubt", "dream.v")
WANTING = ("want", "try", "begin", "learn.to", "refuse", "decide")
RELATIONS = (
    "live",
    "serve",
    "born",
    "visit",
    "found",
    "meet",
    "lead",
    "study",
    "lie",
    "happen",
    "leave",
    "admire",
)
VERBS = (*INTRANSITIVE, *TRANSITIVE, *DITRANSITIVE, *SAYING, *WANTING, *RELATIONS)

MANNER = (
    "quickly",
    "slowly",
    "often",
    "well",
    "quietly",
    "together",
    "gladly",
    "badly",
    "again",
    "never.again",
    "alone",
    "carefully",
)
TIME = ("today", "yesterday", "now", "soon", "always", "then", "tomorrow", "early")
DEGREE = ("very", "too", "only", "also")
NUMERALS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
MONTHS = tuple(f"month{i}" for i in range(1, 13))
WEEKDAYS = tuple(f"weekday{i}" for i in range(1, 8))
LOCATIVE = ("in", "near", "behind", "under", "from", "to", "through")
ADPOSITIONS = (*LOCATIVE, "on", "at", "with", "for", "of", "about", "after", "before")
FUNCTION = (
    *(
        "the",
        "a",
        "and",
        "but",
        "that",
        "which",
        "because",
        "when",
        "if",
        "not",
        "will",
        "be",
        "have",
        "whether",
        "to.inf",
        "or",
    ),
    *("he", "she", "they", "I", "we", "who", "where", "when.wh", "what", "this", "every", "no"),
    *ADPOSITIONS,
)

CONTENT = (
    *(noun for group in NOUNS.values() for noun in group),
    *VERBS,
    *ADJECTIVES,
    "national",
    *MANNER,
    *TIME,
    *DEGREE,
    *NUMERALS,
    *MONTHS,
    *WEEKDAYS,
)
LOANABLE = (*(noun for group in NOUNS.values() for noun in group), *MONTHS, *ADJECTIVES, *VERBS)
