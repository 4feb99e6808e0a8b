# SPDX-License-Identifier: Apache-2.0
"""Where the parts meet: the only package that knows all of them.

* ``install`` makes what a first start needs, and opens what is there.
* ``service_table`` binds the lifecycle and the API to the ``services`` table.
* ``processes`` puts services together into one process.

It holds no rules of its own.
"""
