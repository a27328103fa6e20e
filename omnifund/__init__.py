"""An OAuth client of OmniFund, to use as it is or to copy. It depends on no web framework.

Begin with ``client``. From the bottom up: ``errors`` and ``events``; ``token``, ``http``,
``encryption``, and ``redis_client``; ``token_store`` (where connections are stored, in Redis) and
``sql_token_store`` (in a SQL database); ``connections`` (their tokens, encrypted) and
``authorization`` (signing in); ``oauth`` (OmniFund's OAuth endpoints, through Authlib); ``refresh``
(valid access tokens); ``api``.
"""
