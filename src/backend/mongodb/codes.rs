//! The table of MongoDB's codes.

use crate::backend::table::{Row, codes};
use crate::error::ErrorKind;

/// Codes from here on have no name: they are `Location` and a number, one for each place in
/// the server where a request is found to be wrong.
const LOCATIONS: i32 = 10_000;

codes! {
    /// The kind of error that a code of MongoDB's server stands for.
    ///
    /// ```
    /// use millpond::{ErrorKind, backend::mongodb::kind_of_code};
    ///
    /// assert_eq!(kind_of_code(112), ErrorKind::Conflict); // WriteConflict
    /// assert_eq!(kind_of_code(16_608), ErrorKind::InvalidOperation); // Location16608
    /// ```
    ///
    /// # The table
    ///
    /// After the server's `error_codes.yml`. Codes from 10,000 on that have no row (the
    /// server calls them `Location` and the number) are an `InvalidOperation`; the rest is
    /// `Other`.
    ///
    /// Labels say more than codes: with `NoWritesPerformed` nothing was applied; with
    /// `UnknownTransactionCommitResult`, and if the write concern was not met
    /// (`writeConcernError`, whatever its code), the outcome is unknown; a code without a row
    /// is a `Conflict` with `TransientTransactionError`, and `Overloaded` with
    /// `SystemOverloadedError`. Of a write that was ended by a lost connection, a limit of
    /// time or the server's own end the outcome is unknown too, and of an operation on many
    /// documents whenever it fails after it has begun. What is `Overloaded` *at any load* is no
    /// reason for [fewer connections](crate::Builder::adaptive).
    ///
    /// | code | name | kind |
    /// |---|---|---|
    pub fn kind_of_code(code: i32) -> ErrorKind {
        kind_in_table(code).unwrap_or(if code >= LOCATIONS {
            ErrorKind::InvalidOperation
        } else {
            ErrorKind::Other
        })
    }

    const ROWS: i32;
    2     "BadValue"                          => InvalidOperation;
    4     "NoSuchKey"                         => InvalidOperation;
    6     "HostUnreachable"                   => ConnectionLost;
    7     "HostNotFound"                      => ConnectionLost;
    9     "FailedToParse"                     => InvalidOperation;
    10    "CannotMutateObject"                => InvalidOperation;
    11    "UserNotFound"                      => NotFound;
    12    "UnsupportedFormat"                 => InvalidOperation;
    13    "Unauthorized"                      => Permission;
    14    "TypeMismatch"                      => InvalidOperation;
    15    "Overflow"                          => InvalidOperation;
    16    "InvalidLength"                     => InvalidOperation;
    17    "ProtocolError"                     => InvalidOperation;
    18    "AuthenticationFailed"              => Authentication;
    20    "IllegalOperation"                  => InvalidOperation;
    21    "EmptyArrayOperation"               => InvalidOperation;
    22    "InvalidBSON"                       => InvalidOperation;
    24    "LockTimeout"                       => Conflict;
    26    "NamespaceNotFound"                 => NotFound;
    27    "IndexNotFound"                     => NotFound;
    28    "PathNotViable"                     => InvalidOperation;
    29    "NonExistentPath"                   => InvalidOperation;
    30    "InvalidPath"                       => InvalidOperation;
    31    "RoleNotFound"                      => NotFound;
    32    "RolesNotRelated"                   => InvalidOperation;
    33    "PrivilegeNotFound"                 => NotFound;
    40    "ConflictingUpdateOperators"        => InvalidOperation;
    43    "CursorNotFound"                    => NotFound;
    46    "LockBusy"                          => Conflict;
    47    "NoMatchingDocument"                => NotFound;
    48    "NamespaceExists"                   => Constraint;
    50    "MaxTimeMSExpired"                  => DeadlineExceeded;
    52    "DollarPrefixedFieldName"           => InvalidOperation;
    53    "InvalidIdField"                    => InvalidOperation;
    54    "NotSingleValueField"               => InvalidOperation;
    55    "InvalidDBRef"                      => InvalidOperation;
    56    "EmptyFieldName"                    => InvalidOperation;
    57    "DottedFieldName"                   => InvalidOperation;
    59    "CommandNotFound"                   => InvalidOperation;
    61    "ShardKeyNotFound"                  => InvalidOperation;
    64    "WriteConcernTimeout"               => DeadlineExceeded, outcome unknown;
    66    "ImmutableField"                    => InvalidOperation;
    67    "CannotCreateIndex"                 => InvalidOperation;
    68    "IndexAlreadyExists"                => Constraint;
    70    "ShardNotFound"                     => NotFound;
    71    "ReplicaSetNotFound"                => NotFound;
    72    "InvalidOptions"                    => InvalidOperation;
    73    "InvalidNamespace"                  => InvalidOperation;
    74    "NodeNotFound"                      => NotFound;
    76    "NoReplicationEnabled"              => Configuration;
    79    "UnknownReplWriteConcern"           => Configuration;
    85    "IndexOptionsConflict"              => InvalidOperation;
    86    "IndexKeySpecsConflict"             => InvalidOperation;
    89    "NetworkTimeout"                    => ConnectionLost;
    90    "CallbackCanceled"                  => Cancelled;
    91    "ShutdownInProgress"                => ConnectionLost;
    94    "NotYetInitialized"                 => WrongRole;
    95    "NotSecondary"                      => WrongRole;
    100   "UnsatisfiableWriteConcern"         => Configuration;
    107   "LockFailed"                        => Conflict;
    112   "WriteConflict"                     => Conflict;
    115   "CommandNotSupported"               => InvalidOperation;
    116   "DocTooLargeForCapped"              => InvalidOperation;
    117   "ConflictingOperationInProgress"    => Conflict;
    121   "DocumentValidationFailure"         => Constraint;
    123   "NotAReplicaSet"                    => Configuration;
    133   "FailedToSatisfyReadPreference"     => WrongRole;
    134   "ReadConcernMajorityNotAvailableYet" => Overloaded, at any load;
    136   "CappedPositionLost"                => Conflict;
    139   "JSInterpreterFailure"              => InvalidOperation;
    142   "JSUncatchableError"                => InvalidOperation;
    143   "CursorInUse"                       => Conflict;
    145   "PooledConnectionsDropped"          => ConnectionLost;
    146   "ExceededMemoryLimit"               => ResourceLimit;
    148   "ReadConcernMajorityNotEnabled"     => Configuration;
    150   "StaleEpoch"                        => Conflict;
    159   "DurationOverflow"                  => InvalidOperation;
    160   "MaxStalenessOutOfRange"            => Configuration;
    165   "ViewDepthLimitExceeded"            => InvalidOperation;
    166   "CommandNotSupportedOnView"         => InvalidOperation;
    167   "OptionNotSupportedOnView"          => InvalidOperation;
    168   "InvalidPipelineOperator"           => InvalidOperation;
    170   "TooManyMatchingDocuments"          => InvalidOperation;
    171   "CannotIndexParallelArrays"         => InvalidOperation;
    172   "TransportSessionClosed"            => ConnectionLost;
    175   "QueryPlanKilled"                   => Conflict;
    181   "AmbiguousIndexKeyPattern"          => InvalidOperation;
    182   "InvalidViewDefinition"             => InvalidOperation;
    189   "PrimarySteppedDown"                => WrongRole;
    197   "InvalidIndexSpecificationOption"   => InvalidOperation;
    201   "CannotBuildIndexKeys"              => InvalidOperation;
    202   "NetworkInterfaceExceededTimeLimit" => DeadlineExceeded;
    206   "NoSuchSession"                     => NotFound;
    207   "InvalidUUID"                       => InvalidOperation;
    208   "TooManyLocks"                      => ResourceLimit;
    211   "KeyNotFound"                       => NotFound;
    214   "AuthenticationRestrictionUnmet"    => Authentication;
    215   "DatabaseDropPending"               => Conflict;
    216   "ElectionInProgress"                => WrongRole;
    221   "IndexModified"                     => Conflict;
    224   "QueryFeatureNotAllowed"            => InvalidOperation;
    225   "TransactionTooOld"                 => Conflict;
    227   "CannotImplicitlyCreateCollection"  => InvalidOperation;
    232   "MaxSubPipelineDepthExceeded"       => InvalidOperation;
    235   "InternalErrorNotSupported"         => InvalidOperation;
    237   "CursorKilled"                      => Cancelled;
    238   "NotImplemented"                    => InvalidOperation;
    239   "SnapshotTooOld"                    => Conflict;
    241   "ConversionFailure"                 => InvalidOperation;
    242   "CannotCreateCollection"            => InvalidOperation;
    246   "SnapshotUnavailable"               => Conflict;
    249   "StaleDbVersion"                    => Conflict;
    250   "StaleChunkHistory"                 => Conflict;
    251   "NoSuchTransaction"                 => Conflict;
    256   "TransactionCommitted"              => InvalidOperation;
    257   "TransactionTooLarge"               => InvalidOperation;
    260   "InvalidResumeToken"                => InvalidOperation;
    261   "TooManyLogicalSessions"            => ResourceLimit;
    262   "ExceededTimeLimit"                 => DeadlineExceeded;
    263   "OperationNotSupportedInTransaction" => InvalidOperation;
    264   "TooManyFilesOpen"                  => ResourceLimit;
    267   "PreparedTransactionInProgress"     => Conflict;
    272   "MigrationConflict"                 => Conflict;
    276   "IndexBuildAborted"                 => Cancelled;
    279   "ClientDisconnect"                  => Cancelled;
    285   "IndexBuildAlreadyInProgress"       => Conflict;
    286   "ChangeStreamHistoryLost"           => NotFound;
    290   "TransactionExceededLifetimeLimitSeconds" => DeadlineExceeded;
    291   "NoQueryExecutionPlans"             => InvalidOperation;
    292   "QueryExceededMemoryLimitNoDiskUseAllowed" => ResourceLimit;
    303   "SplitHorizonChange"                => ConnectionLost;
    314   "ObjectIsBusy"                      => Conflict;
    322   "APIVersionError"                   => InvalidOperation;
    323   "APIStrictError"                    => InvalidOperation;
    324   "APIDeprecationError"               => InvalidOperation;
    334   "MechanismUnavailable"              => Authentication;
    347   "APIMismatchError"                  => InvalidOperation;
    352   "UnsupportedOpQueryCommand"         => InvalidOperation;
    355   "InterruptedDueToStorageChange"     => Conflict;
    356   "TxnRetryCounterTooOld"             => Conflict;
    357   "InvalidBSONType"                   => InvalidOperation;
    361   "CollectionUUIDMismatch"            => NotFound;
    365   "TemporarilyUnavailable"            => Overloaded;
    371   "UserWritesBlocked"                 => WrongRole;
    378   "NonConformantBSON"                 => InvalidOperation;
    386   "DuplicateKeyId"                    => Constraint;
    388   "TransactionTooLargeForCache"       => InvalidOperation;
    391   "ReauthenticationRequired"          => Authentication;
    402   "ResourceExhausted"                 => Overloaded;
    407   "PooledConnectionAcquisitionExceededTimeLimit" => Overloaded;
    411   "QueryRejectedBySettings"           => Permission;
    433   "AdmissionQueueOverflow"            => Overloaded;
    449   "RateLimitExceeded"                 => Overloaded;
    450   "PooledConnectionAcquisitionRejected" => Overloaded;
    453   "InterruptedDueToReshardingCriticalSection" => Conflict;
    462   "IngressRequestRateLimitExceeded"   => Overloaded;
    8000  "AtlasError, which is a bad login there" => Authentication;
    9001  "SocketException"                   => ConnectionLost;
    10058 "LegacyNotPrimary"                  => WrongRole;
    10107 "NotWritablePrimary"                => WrongRole;
    11000 "DuplicateKey"                      => Constraint;
    11001 "DuplicateKey, by old servers"      => Constraint;
    11600 "InterruptedAtShutdown"             => ConnectionLost;
    11601 "Interrupted"                       => Cancelled;
    11602 "InterruptedDueToReplStateChange"   => WrongRole;
    12582 "DuplicateKey, by old routers"      => Constraint;
    12586 "BackgroundOperationInProgressForDatabase" => Conflict;
    12587 "BackgroundOperationInProgressForNamespace" => Conflict;
    13113 "MergeStageNoMatchingDocument"      => NotFound;
    13297 "DatabaseDifferCase"                => Constraint;
    13388 "StaleConfig"                       => Conflict;
    13435 "NotPrimaryNoSecondaryOk"           => WrongRole;
    13436 "NotPrimaryOrSecondary"             => WrongRole;
    14031 "OutOfDiskSpace"                    => ResourceLimit;
    46841 "ClientMarkedKilled"                => Cancelled;
}

/// The kind, where the code has a row.
pub(super) fn kind_in_table(code: i32) -> Option<ErrorKind> {
    let row = ROWS.iter().find(|row| row.code == code);
    row.map(|row| row.kind)
}

/// Whether the server leaves open what became of the operation.
pub(super) fn is_open(code: i32) -> bool {
    ROWS.iter()
        .any(|row: &Row<i32>| row.code == code && row.open)
}

/// Whether the server says so however few connections are used.
pub(super) fn is_at_any_load(code: i32) -> bool {
    ROWS.iter()
        .any(|row: &Row<i32>| row.code == code && row.at_any_load)
}

/// Whether the server finds it out from the command alone, before it does anything. What an
/// expression comes to (`TypeMismatch`, `ConversionFailure`) it finds out at some document.
pub(super) fn is_about_the_command(code: i32) -> bool {
    matches!(
        code,
        9 | 20 | 22 | 26 | 27 | 40 | 52 | 53 | 56 | 59 | 66 | 67 | 72 | 73 | 115 | 166..=168
            | 263 | 322..=324 | 347 | 10334 | 16020 | 40324 | 40413..=40415
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_once_each() {
        assert!(ROWS.is_sorted_by(|a, b| a.code < b.code));
    }

    #[test]
    fn the_rest_goes_by_its_number() {
        assert_eq!(kind_of_code(1), ErrorKind::Other);
        assert_eq!(kind_of_code(31_249), ErrorKind::InvalidOperation);
        assert!(is_open(64) && !is_open(50));
    }
}
