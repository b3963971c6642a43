# SPDX-License-Identifier: Apache-2.0
"""Random model repositories that are almost valid: valid ones with one to three changes, the same ones every time.

| module | purpose |
| --- | --- |
| `repositories` | such a repository, by its number |
| `valid_repositories` | what it starts from |
| `message_changes` | changes of a parsed config: any field, by its type |
| `text_changes` | changes of a config's text: numbers, quotes, punctuation, invisible characters |
"""
