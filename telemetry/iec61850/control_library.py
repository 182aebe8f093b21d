"""The functions of libiec61850 that a server with controls and TLS needs, beside those of `library`.

Handlers are called by the library's own thread: keep every one referenced until the server is destroyed, and let
nothing be raised into C. Calls go through `call`, which releases the GIL; `leaf` reads memory that a handler was given.

Signatures: iec61850_server.h, iec61850_cdc.h, iso_connection_parameters.h, tls_config.h of libiec61850 1.6.
"""

from __future__ import annotations

import ctypes as c
from functools import cache
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from telemetry.iec61850 import library as ied

FC_SP: Final = 2  # FunctionalConstraint
FC_SV: Final = 3
FC_CF: Final = 4
FC_DC: Final = 5
FC_SE: Final = 7
FC_BL: Final = 10
WRITABLE: Final = (FC_SP, FC_SV, FC_CF, FC_DC, FC_SE, FC_BL)
ACCESS_POLICY_DENY: Final = 1

CDC_DESCRIPTION: Final = 1 << 2
CTL_CANCEL: Final = 1 << 4
CTL_ORIGIN: Final = 1 << 6
CTL_NUMBER: Final = 1 << 7
CTL_SELECTED: Final = 1 << 8
INT32U: Final = 9  # DataAttributeType

RESULT_FAILED: Final = 0  # ControlHandlerResult
RESULT_OK: Final = 1
RESULT_WAITING: Final = 2

MMS_STRUCTURE: Final = 1  # MmsType
MMS_FLOAT: Final = 6

AUTH_NONE: Final = 0  # AcseAuthenticationMechanism
AUTH_TLS: Final = 3
TLS_1_2: Final = 6  # TLSConfigVersion

_P, _I, _S, _B, _U32 = c.c_void_p, c.c_int, c.c_char_p, c.c_bool, c.c_uint32

CheckHandler = c.CFUNCTYPE(_I, _P, _P, _P, _B, _B)  # (action, parameter, ctlVal, test, interlock check)
OperateHandler = c.CFUNCTYPE(_I, _P, _P, _P, _B)  # (action, parameter, ctlVal, test)
SelectHandler = c.CFUNCTYPE(None, _P, _P, _B, _I)  # (action, parameter, selected, reason)
Authenticator = c.CFUNCTYPE(_B, _P, _P, c.POINTER(_P), _P)  # (parameter, what the client showed, token, application)
ConnectionHandler = c.CFUNCTYPE(None, _P, _P, _B, _P)  # (server, connection, connected, parameter)


class Shown(c.Structure):
    """sAcseAuthenticationParameter: with AUTH_TLS the DER octets of the client's certificate."""

    _fields_ = (("mechanism", _I), ("octets", _P), ("length", _I))


_CALL: dict[str, tuple[Any, tuple[Any, ...]]] = {
    # model
    "CAC_Unit_create": (_P, (_S, _P, _B)),
    "DataAttribute_create": (_P, (_S, _P, _I, _I, c.c_uint8, _I, _U32)),
    "CDC_APC_create": (_P, (_S, _P, _U32, _U32, _B)),
    "CDC_SPS_create": (_P, (_S, _P, _U32)),
    "CDC_VSS_create": (_P, (_S, _P, _U32)),
    "IedServer_setWriteAccessPolicy": (None, (_P, _I, _I)),
    "IedServer_updateBooleanAttributeValue": (None, (_P, _P, _B)),
    "IedServer_updateInt32AttributeValue": (None, (_P, _P, c.c_int32)),
    "IedServer_updateUnsignedAttributeValue": (None, (_P, _P, _U32)),
    "IedServer_updateVisibleStringAttributeValue": (None, (_P, _P, _S)),
    # control
    "IedServer_setPerformCheckHandler": (None, (_P, _P, CheckHandler, _P)),
    "IedServer_setControlHandler": (None, (_P, _P, OperateHandler, _P)),
    "IedServer_setSelectStateChangedHandler": (None, (_P, _P, SelectHandler, _P)),
    "ControlAction_getClientConnection": (_P, (_P,)),
    "ClientConnection_getSecurityToken": (_P, (_P,)),
    "ClientConnection_getPeerAddress": (_S, (_P,)),
    # who may come in
    "IedServer_setAuthenticator": (None, (_P, Authenticator, _P)),
    "IedServer_setConnectionIndicationHandler": (None, (_P, ConnectionHandler, _P)),
    "TLSConfiguration_create": (_P, ()),
    "TLSConfiguration_setOwnCertificateFromFile": (_B, (_P, _S)),
    "TLSConfiguration_setOwnKeyFromFile": (_B, (_P, _S, _S)),
    "TLSConfiguration_addAllowedCertificate": (_B, (_P, _S, _I)),
    "TLSConfiguration_addCACertificate": (_B, (_P, _S, _I)),
    "TLSConfiguration_setChainValidation": (None, (_P, _B)),
    "TLSConfiguration_setAllowOnlyKnownCertificates": (None, (_P, _B)),
    "TLSConfiguration_enableSessionResumption": (None, (_P, _B)),
    "TLSConfiguration_setMinTlsVersion": (None, (_P, _I)),
    "TLSConfiguration_destroy": (None, (_P,)),
}

_LEAF: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ControlAction_setAddCause": (None, (_P, _I)),
    "ControlAction_isSelect": (_B, (_P,)),
    "ControlAction_getOrCat": (_I, (_P,)),
    "ControlAction_getOrIdent": (_P, (_P, c.POINTER(_I))),
    "ControlAction_getCtlNum": (_I, (_P,)),
    "ControlAction_getT": (_P, (_P,)),
    "MmsValue_getArraySize": (_I, (_P,)),
}


class Functions(NamedTuple):
    """`call` releases the GIL, `leaf` keeps it."""

    call: SimpleNamespace
    leaf: SimpleNamespace


@cache
def load() -> Functions:
    """The functions above of the library that `library.load` found. Raises BackendMissing, LibraryVersion."""
    path = ied.load().path
    return Functions(ied.declare(c.CDLL(path), _CALL), ied.declare(c.PyDLL(path), _LEAF))
