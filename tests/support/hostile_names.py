"""Names that try to be more than text, and what a reader of Markdown makes of them."""

from html.parser import HTMLParser

from markdown_it import MarkdownIt

HOSTILE = [
    "a|b",
    "*x* _y_ `z` ~~w~~",
    "[here](https://example.org)",
    "![p](x.png)",
    "<script>alert(1)</script>",
    "&lt;b&gt; &amp;",
    "https://example.org www.example.org a@example.org",
    "{{ card_data }} {% x %}",
    "$x$ #1 @all :tada:",
    "back\\slash",
]


class Text(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.tags = "", set()
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)


def rendered(markdown: str) -> Text:
    return Text(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))
