# SPDX-License-Identifier: Apache-2.0
"""Cases of the text format: what Triton's protobuf library in C++ accepts, which Python's judges differently."""

from config_cases.case import TENSORS, Case, inert

CODE = "unreadable-config"


def batch_size(value: str) -> str:
    return inert(f"max_batch_size: {value}")


def text(literal: str) -> str:
    return inert(f'parameters {{ key: "k" value {{ string_value: {literal} }} }}')


def batching(field: str) -> str:
    return inert(f"max_batch_size: 1 dynamic_batching {{ {field} }}")


def slots(value: str) -> str:
    return inert(f"max_batch_size: 1 sequence_batching {{ direct {{ minimum_slot_utilization: {value} }} }}")


def datatype(value: str) -> str:
    return inert(tensors=TENSORS.replace("TYPE_FP32", value, 1))


def dims(value: str) -> str:
    return inert(tensors=TENSORS.replace("[ 2 ]", value))


LOADED = {
    "tabs, line feeds and form feeds": inert("\t\v\f\r\nmax_batch_size:\f8"),
    "Unicode in a comment": inert("# a\u00a0b\u2028c"),
    "Unicode in a string": text('"a\u00a0b\u2028c"'),
    "a control character in a string": text('"a\x01\t\rb"'),
    "bytes in a string that are not UTF-8": text('"a?b"').encode().replace(b"?", b"\xff\xed\xa0\x80"),
    "bytes in a comment that are not UTF-8": inert("# ?").encode().replace(b"?", b"\xff"),
    "a comment with a carriage return": inert("# a\rmax_batch_size: -1"),
    "a hexadecimal integer": batch_size("0X1f"),
    "an octal integer": batch_size("010"),
    "minus zero": batch_size("- # zero\n 0"),
    "the greatest integer": batch_size("2147483647"),
    "the smallest integer": inert(
        'sequence_batching { control_input { name: "s" '
        "control { kind: CONTROL_SEQUENCE_START int32_false_true: [ -2147483648, 1 ] } } }"
    ),
    "a float with f": slots("1f"),
    "a float without digits after its point": slots("1."),
    "a float without digits before its point": slots(".5"),
    "not a number": slots("-NaN"),
    "true as t": batching("preserve_ordering: t"),
    "true as an integer": batching("preserve_ordering: 0x1"),
    "an enum as an integer": datatype("11"),
    "an enum as an octal integer": datatype("013"),
    "escape sequences": text(r'"\a\?\'\101\400\x414\u00e9\U0010ffff"'),
    "half a surrogate pair": text(r'"\ud83d"'),
    "adjacent strings": text('"a" \'b\'\n"c"'),
    "angle brackets": inert('parameters < key: "k" value: < string_value: "a" > >'),
    "a placeholder in quotes": text('"${gpus}"'),
    "a map in brackets": inert('parameters [ { key: "k" }, { value { string_value: "a" } } ]'),
    "a key twice": inert('parameters { key: "k" } parameters { key: "k" }'),
    "separators": inert("max_batch_size: 1; dynamic_batching { preserve_ordering: false, },"),
    "a default before the value": inert("max_batch_size: 0 max_batch_size: 8"),
    "an empty list before the value": dims("[] dims: 2"),
}
REFUSED = {
    "a no-break space": (inert("max_batch_size:\u00a08"), "codepoint 194: U+00A0 NO-BREAK SPACE"),
    "a line separator": (inert("\u2028max_batch_size: 8"), "codepoint 226: U+2028 LINE SEPARATOR"),
    "a zero width space": (inert("\u200b"), "codepoint 226: U+200B ZERO WIDTH SPACE"),
    "a byte order mark": ("\ufeff" + inert(), "codepoint 239: U+FEFF ZERO WIDTH NO-BREAK SPACE"),
    "typographic quotes": (text("“a”"), "codepoint 226: U+201C LEFT DOUBLE QUOTATION MARK"),
    "a full-width digit": (batch_size("\uff18"), "codepoint 239: U+FF18 FULLWIDTH DIGIT EIGHT"),
    "UTF-16": (inert().encode("utf-16"), "codepoint 255: the file is not UTF-8"),
    "a NUL": (inert("\0"), "Invalid control characters encountered in text: U+0000"),
    "a NUL in a comment": (inert("# a\0b"), "Invalid control characters encountered in text: U+0000"),
    "a NUL in a string": (text('"a\0b"'), "Unexpected end of string"),
    "an information separator": (
        inert("\x1cmax_batch_size: 8"),
        "Invalid control characters encountered in text: U+001C",
    ),
    "a plus sign": (batch_size("+8"), "Expected integer, got: +"),
    "an integer with an underscore": (batch_size("1_0"), "Need space between number and identifier"),
    "a binary integer": (batch_size("0b1"), "Need space between number and identifier"),
    "an octal integer with an 8": (batch_size("08"), "Numbers starting with leading zero must be in octal"),
    "a hexadecimal integer without digits": (batch_size("0x"), '"0x" must be followed by hex digits'),
    "a float for an integer": (batch_size("8.0"), "Expected integer, got: 8.0"),
    "an exponent for an integer": (batch_size("1e1"), "Expected integer, got: 1e1"),
    "text for an integer": (batch_size('"8"'), 'Expected integer, got: "8"'),
    "an integer out of range": (batch_size("2147483648"), "Integer out of range (2147483648)"),
    "an integer with many digits": (batch_size("9" * 5000), "Integer out of range"),
    "a 64-bit integer out of range": (dims("9223372036854775808"), "Integer out of range (9223372036854775808)"),
    "a negative unsigned integer": (batching("max_queue_delay_microseconds: -0"), "Expected integer, got: -"),
    "a hexadecimal float": (slots("0x1"), "Expect a decimal number, got: 0x1"),
    "infinity with f": (slots("inff"), "Expected double, got: inff"),
    "an exponent without digits": (slots("1e"), '"e" must be followed by exponent'),
    "two points": (slots("1.2.3"), "Already saw decimal point or exponent; can't have another one"),
    "true in capitals": (
        batching("preserve_ordering: TRUE"),
        'Invalid value for boolean field "preserve_ordering". Value: "TRUE"',
    ),
    "an unknown enum value": (
        datatype("TYPE_FLOAT"),
        'Unknown enumeration value of "TYPE_FLOAT" for field "data_type"; did you mean `TYPE_FP32`?',
    ),
    "a datatype of HTTP requests": (datatype("BYTES"), "did you mean `TYPE_STRING`?"),
    "a datatype in small letters": (datatype("type_int8"), "did you mean `TYPE_INT8`?"),
    "an enum in quotes": (datatype('"TYPE_FP32"'), 'Expected integer or identifier, got: "TYPE_FP32"'),
    "an unknown escape sequence": (text(r'"C:\models"'), "Invalid escape sequence in string literal"),
    "a short escape sequence": (text(r'"\u12"'), r"Expected four hex digits for \u escape sequence"),
    "a line break in a string": (text('"a\nb"'), "String literals cannot cross line boundaries"),
    "a string without quotes": (text("a"), "Expected string, got: a"),
    "an unknown field": (
        inert("max_batchsize: 8"),
        'Message type "inference.ModelConfig" has no field named "max_batchsize"; did you mean `max_batch_size`?',
    ),
    "a field twice": (
        inert("max_batch_size: 1 max_batch_size: 2"),
        'Non-repeated field "max_batch_size" is specified multiple times',
    ),
    "two schedulers": (
        batching("") + "sequence_batching { }",
        'Field "sequence_batching" is specified along with field "dynamic_batching"',
    ),
    "a list for one value": (batch_size("[ 1 ]"), "Expected integer, got: ["),
    "a comma at the end of a list": (dims("[ 2, ]"), "Expected integer, got: ]"),
    "no comma in a list": (dims("[ 2 3 ]"), 'Expected ",", found "3"'),
    "no colon": (inert("max_batch_size 8"), 'Expected ":", found "8"'),
    "an equals sign": (inert("max_batch_size = 8"), 'Expected ":", found "="'),
    "a comment in the style of C": (inert("// a"), "Expected identifier, got: /"),
    "JSON": ('{ "name": "m" }', "Expected identifier, got: {"),
    "a bracket that is not closed": (inert("dynamic_batching {"), "is not closed"),
    "a bracket of the other kind": (inert("dynamic_batching < }"), 'Expected ">", found "}"'),
    "a placeholder": (batch_size("${size}"), "got: ${size}, a placeholder that was never filled in"),
    "a placeholder in quotes for an integer": (
        dims('"${dim}"'),
        'got: "${dim}", a placeholder that was never filled in',
    ),
}
CASES = [
    *(Case(name, config) for name, config in LOADED.items()),
    *(Case(name, config, CODE, words) for name, (config, words) in REFUSED.items()),
]
