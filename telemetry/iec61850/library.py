"""libiec61850 through ctypes: every function we call, with its signature, and nothing else.

The wheel `pyiec61850-ng` bundles the library; its SWIG layer holds the GIL in blocking calls and hangs the process, so
we load the same file ourselves. `call` functions release the GIL; `leaf` functions keep it and must never block: they
only read or set memory, which is cheaper than handing the GIL over. A wrong signature crashes silently, hence the
declared table, the version check and the self-test at every load. GPL-3: load it only in the process that speaks
IEC 61850.

Signatures: iec61850_client.h, iec61850_server.h, iec61850_dynamic_model.h, iec61850_cdc.h, mms_value.h, mms_type_spec.h
of libiec61850 1.6.
"""

from __future__ import annotations

import ctypes as c
import importlib
from functools import cache
from types import SimpleNamespace
from typing import Any, Final

from telemetry.iec61850.errors import BackendMissing, LibraryVersion
from telemetry.iec61850.selftest import check

SERIES: Final = "1.6."

FC_MX: Final = 1  # FunctionalConstraint
STATE_CONNECTING: Final = 1  # IedConnectionState
STATE_CONNECTED: Final = 2
RCB_RPT_ENA: Final = 2  # parameter masks of setRCBValues
RCB_RESV: Final = 4
RCB_OPT_FLDS: Final = 32
RCB_TRG_OPS: Final = 256
RCB_INTG_PD: Final = 512
RCB_ENTRY_ID: Final = 4096
RCB_RESV_TMS: Final = 16384

TRG_DATA_CHANGED: Final = 1
TRG_QUALITY_CHANGED: Final = 2
TRG_DATA_UPDATE: Final = 4
TRG_INTEGRITY: Final = 8
TRG_GI: Final = 16
OPT_SEQ_NUM: Final = 1
OPT_TIME_STAMP: Final = 2
OPT_REASON: Final = 4
OPT_DATA_SET: Final = 8
OPT_BUFFER_OVERFLOW: Final = 32
OPT_ENTRY_ID: Final = 64
OPT_CONF_REV: Final = 128

ACSE_AUTH_PASSWORD: Final = 1  # AcseAuthenticationMechanism
TLS_1_2: Final = 6  # TLSConfigVersion

ReportHandler = c.CFUNCTYPE(None, c.c_void_p, c.c_void_p)  # (parameter, ClientReport)
# (parameter, level, code, message, connection)
TlsEventHandler = c.CFUNCTYPE(None, c.c_void_p, c.c_int, c.c_int, c.c_char_p, c.c_void_p)


class AccessSpecification(c.Structure):
    """MmsVariableAccessSpecification: a member of a data set, as the device named it."""

    _fields_ = (
        ("domain", c.c_char_p), ("item", c.c_char_p), ("array_index", c.c_int32), ("component", c.c_char_p)
    )  # fmt: skip


_P, _I, _S, _B = c.c_void_p, c.c_int, c.c_char_p, c.c_bool
_U8, _U16, _U32 = c.c_uint8, c.c_uint16, c.c_uint32
_F, _D = c.c_float, c.c_double
_ERR = c.POINTER(c.c_int)

_CALL: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "LibIEC61850_getVersionString": (_S, ()),
    # client: association
    "IedConnection_createEx": (_P, (_P, _B)),
    "IedConnection_setConnectTimeout": (None, (_P, _U32)),
    "IedConnection_setRequestTimeout": (None, (_P, _U32)),
    "IedConnection_connectAsync": (None, (_P, _ERR, _S, _I)),
    "IedConnection_tick": (_B, (_P,)),
    "IedConnection_getState": (_I, (_P,)),
    "IedConnection_close": (None, (_P,)),
    "IedConnection_destroy": (None, (_P,)),
    "IedConnection_getMmsConnection": (_P, (_P,)),
    # client: TLS and password; TLSConfiguration_setInsecure is left out on purpose
    "MmsConnection_getIsoConnectionParameters": (_P, (_P,)),
    "IsoConnectionParameters_setAcseAuthenticationParameter": (None, (_P, _P)),
    "AcseAuthenticationParameter_create": (_P, ()),
    "AcseAuthenticationParameter_setAuthMechanism": (None, (_P, _I)),
    "AcseAuthenticationParameter_setPassword": (None, (_P, _S)),
    "AcseAuthenticationParameter_destroy": (None, (_P,)),
    "TLSConfiguration_create": (_P, ()),
    "TLSConfiguration_destroy": (None, (_P,)),
    "TLSConfiguration_setChainValidation": (None, (_P, _B)),
    "TLSConfiguration_setAllowOnlyKnownCertificates": (None, (_P, _B)),
    "TLSConfiguration_setOwnCertificateFromFile": (_B, (_P, _S)),
    "TLSConfiguration_setOwnKeyFromFile": (_B, (_P, _S, _S)),
    "TLSConfiguration_addAllowedCertificateFromFile": (_B, (_P, _S)),
    "TLSConfiguration_addCACertificateFromFile": (_B, (_P, _S)),
    "TLSConfiguration_setMinTlsVersion": (None, (_P, _I)),
    "TLSConfiguration_setEventHandler": (None, (_P, TlsEventHandler, _P)),
    # client: model
    "MmsConnection_getDomainNames": (_P, (_P, _ERR)),
    "IedConnection_getLogicalDeviceVariables": (_P, (_P, _ERR, _S)),
    "IedConnection_readObject": (_P, (_P, _ERR, _S, _I)),
    "MmsValue_delete": (None, (_P,)),
    "IedConnection_getVariableSpecification": (_P, (_P, _ERR, _S, _I)),
    "MmsConnection_readNamedVariableListDirectory": (_P, (_P, _ERR, _S, _S, c.POINTER(_B))),
    "MmsVariableAccessSpecification_destroy": (None, (_P,)),
    "LinkedList_destroyStatic": (None, (_P,)),
    "LinkedList_getNext": (_P, (_P,)),
    "LinkedList_getData": (_P, (_P,)),
    "LinkedList_destroy": (None, (_P,)),
    "MmsVariableSpecification_getType": (_I, (_P,)),
    "MmsVariableSpecification_getName": (_S, (_P,)),
    "MmsVariableSpecification_getSize": (_I, (_P,)),
    "MmsVariableSpecification_getChildSpecificationByIndex": (_P, (_P, _I)),
    "MmsVariableSpecification_destroy": (None, (_P,)),
    # client: report control block
    "IedConnection_getRCBValues": (_P, (_P, _ERR, _S, _P)),
    "IedConnection_setRCBValues": (None, (_P, _ERR, _P, _U32, _B)),
    "IedConnection_installReportHandler": (None, (_P, _S, _S, ReportHandler, _P)),
    "IedConnection_uninstallReportHandler": (None, (_P, _S)),
    "ClientReportControlBlock_getRptId": (_S, (_P,)),
    "ClientReportControlBlock_getRptEna": (_B, (_P,)),
    "ClientReportControlBlock_getResv": (_B, (_P,)),
    "ClientReportControlBlock_getDataSetReference": (_S, (_P,)),
    "ClientReportControlBlock_create": (_P, (_S,)),
    "ClientReportControlBlock_getTrgOps": (_I, (_P,)),
    "ClientReportControlBlock_getIntgPd": (_U32, (_P,)),
    "ClientReportControlBlock_getOptFlds": (_I, (_P,)),
    "ClientReportControlBlock_getEntryId": (_P, (_P,)),
    "ClientReportControlBlock_hasResvTms": (_B, (_P,)),
    "ClientReportControlBlock_getResvTms": (c.c_int16, (_P,)),
    "ClientReportControlBlock_setOptFlds": (None, (_P, _I)),
    "ClientReportControlBlock_setEntryId": (None, (_P, _P)),
    "ClientReportControlBlock_setResvTms": (None, (_P, c.c_int16)),
    "ClientReportControlBlock_setRptEna": (None, (_P, _B)),
    "ClientReportControlBlock_setResv": (None, (_P, _B)),
    "ClientReportControlBlock_setTrgOps": (None, (_P, _I)),
    "ClientReportControlBlock_setIntgPd": (None, (_P, _U32)),
    "ClientReportControlBlock_destroy": (None, (_P,)),
    # server: model
    "IedModel_create": (_P, (_S,)),
    "IedModel_destroy": (None, (_P,)),
    "IedModel_getModelNodeByObjectReference": (_P, (_P, _S)),
    "LogicalDevice_create": (_P, (_S, _P)),
    "LogicalNode_create": (_P, (_S, _P)),
    "DataObject_create": (_P, (_S, _P, _I)),
    "CDC_ENS_create": (_P, (_S, _P, _U32)),
    "CDC_INS_create": (_P, (_S, _P, _U32)),
    "CDC_MV_create": (_P, (_S, _P, _U32, _B)),
    "CDC_CMV_create": (_P, (_S, _P, _U32)),
    "DataSet_create": (_P, (_S, _P)),
    "DataSetEntry_create": (_P, (_P, _S, _I, _S)),
    "ReportControlBlock_create": (_P, (_S, _P, _S, _B, _S, _U32, _U8, _U8, _U32, _U32)),
    # server: life
    "IedServerConfig_create": (_P, ()),
    "IedServerConfig_destroy": (None, (_P,)),
    "IedServerConfig_enableFileService": (None, (_P, _B)),
    "IedServerConfig_enableDynamicDataSetService": (None, (_P, _B)),
    "IedServerConfig_enableLogService": (None, (_P, _B)),
    "IedServerConfig_setMaxMmsConnections": (None, (_P, _I)),
    "IedServer_createWithConfig": (_P, (_P, _P, _P)),
    "IedServer_setLocalIpAddress": (None, (_P, _S)),
    "IedServer_start": (None, (_P, _I)),
    "IedServer_isRunning": (_B, (_P,)),
    "IedServer_stop": (None, (_P,)),
    "IedServer_destroy": (None, (_P,)),
    "IedServer_lockDataModel": (None, (_P,)),
    "IedServer_unlockDataModel": (None, (_P,)),
    "IedServer_getAttributeValue": (_P, (_P, _P)),
    "IedServer_updateFloatAttributeValue": (None, (_P, _P, _F)),
    "IedServer_updateQuality": (None, (_P, _P, _U16)),
}

_LEAF: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ClientReport_getDataSetValues": (_P, (_P,)),
    "ClientReport_getReasonForInclusion": (_I, (_P, _I)),
    "ClientReport_hasSeqNum": (_B, (_P,)),
    "ClientReport_getSeqNum": (_U16, (_P,)),
    "ClientReport_getEntryId": (_P, (_P,)),
    "ClientReport_hasBufOvfl": (_B, (_P,)),
    "ClientReport_getBufOvfl": (_B, (_P,)),
    "MmsValue_getElement": (_P, (_P, _I)),
    "MmsValue_getType": (_I, (_P,)),
    "MmsValue_toDouble": (_D, (_P,)),
    "MmsValue_getBitStringAsInteger": (_U32, (_P,)),
    "MmsValue_getUtcTimeBuffer": (_P, (_P,)),
    "MmsValue_getOctetStringSize": (_U16, (_P,)),
    "MmsValue_getOctetStringBuffer": (_P, (_P,)),
    "MmsValue_newOctetString": (_P, (_I, _I)),
    "MmsValue_setOctetString": (None, (_P, _S, _I)),
    "MmsValue_newFloat": (_P, (_F,)),
    "MmsValue_newBitString": (_P, (_I,)),
    "MmsValue_newUtcTime": (_P, (_U32,)),
    "MmsValue_createEmptyStructure": (_P, (_I,)),
    "MmsValue_setElement": (None, (_P, _I, _P)),
    "MmsValue_setFloat": (None, (_P, _F)),
    "MmsValue_setUtcTimeByBuffer": (None, (_P, _S)),
    "MmsValue_setBitStringFromInteger": (None, (_P, _U32)),
}


class Library:
    """The loaded library: `call` releases the GIL, `leaf` keeps it; a name outside the tables is an AttributeError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.call = declare(c.CDLL(path), _CALL)
        self.leaf = declare(c.PyDLL(path), _LEAF)
        self.version: str = self.call.LibIEC61850_getVersionString().decode()
        if not self.version.startswith(SERIES):
            raise LibraryVersion(
                f"libiec61850 {self.version}: the declared signatures are those of {SERIES}x; "
                "install 'pyiec61850-ng>=1.6.1,<1.7'"
            )
        check(self.call, self.leaf)


@cache
def load() -> Library:
    """The library inside `pyiec61850-ng`, loaded once.

    Raises BackendMissing if it is not installed, LibraryVersion if it is of another series or fails the self-test.
    """
    try:
        extension = importlib.import_module("pyiec61850._pyiec61850")
    except ImportError as error:
        raise BackendMissing(f"libiec61850 is not here ({error}): pip install 'flyball[iec61850]'") from error
    return Library(str(extension.__file__))


def declare(library: c.CDLL, table: dict[str, tuple[Any, tuple[Any, ...]]]) -> SimpleNamespace:
    """The functions of a table, each with its result and argument types."""
    functions = SimpleNamespace()
    for name, (restype, argtypes) in table.items():
        function = getattr(library, name)
        function.restype, function.argtypes = restype, argtypes
        setattr(functions, name, function)
    return functions
