"""The little of ctypes that a start needs, from the C module below it: ctypes itself takes 3 ms of a process's life.

Names and behaviour are ctypes's own, and objects of both may be mixed.
"""

import _ctypes
from _ctypes import addressof as addressof
from _ctypes import get_errno as get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import Array as Array
    from ctypes import PyDLL as PyDLL
    from ctypes import c_char as c_char
    from ctypes import c_char_p as c_char_p
    from ctypes import c_int as c_int
    from ctypes import c_long as c_long
    from ctypes import c_uint as c_uint
    from ctypes import c_ulong as c_ulong
    from ctypes import c_void_p as c_void_p
    from ctypes import create_string_buffer as create_string_buffer
else:
    _Simple = _ctypes._SimpleCData

    def _type(name, letter):
        return type(_Simple)(name, (_Simple,), {"_type_": letter, "__module__": __name__, "__slots__": ()})

    c_char, c_char_p, c_void_p = _type("c_char", "c"), _type("c_char_p", "z"), _type("c_void_p", "P")
    c_int, c_uint = _type("c_int", "i"), _type("c_uint", "I")
    c_long, c_ulong = _type("c_long", "l"), _type("c_ulong", "L")

    class _Function(_ctypes.CFuncPtr):
        _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI | _ctypes.FUNCFLAG_USE_ERRNO
        _restype_ = c_int

    class PyDLL:
        """The functions of the libraries that this process has loaded; each is kept, with the types it was given."""

        def __init__(self, name, use_errno):
            assert use_errno
            self._handle = _ctypes.dlopen(name, 0)

        def __getattr__(self, name):
            function = _Function((name, self))
            setattr(self, name, function)
            return function

    def create_string_buffer(init, size=None):
        """As ctypes's: of so many zero bytes, or of these bytes and a zero."""
        if isinstance(init, int):
            return (c_char * init)()
        found = (c_char * (len(init) + 1 if size is None else size))()
        found.value = init
        return found
