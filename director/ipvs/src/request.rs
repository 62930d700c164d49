//! What a client can ask.

use crate::attribute::{Attributes, Kind, Policy};
use crate::config::TimeoutChange;
use crate::daemon::{DAEMON, Daemon, DaemonRole};
use crate::dest::{DEST, DestKey, DestSpec};
use crate::service::{SERVICE, ServiceKey, ServiceSpec};
use crate::uapi::*;
use crate::{Errno, Header, Malformed};

/// A valid request. Unless said otherwise it is answered with [`Answer::Done`](crate::Answer::Done) or
/// [`Answer::Refused`](crate::Answer::Refused), and one that names a service which is not there is refused
/// with ESRCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// No request, or a control message of netlink itself: `Done`.
    Nothing,
    /// Which family IPVS is, or which there are: [`Answer::Family`](crate::Answer::Family).
    GetFamily,
    /// Adds a service. EEXIST where there is one, whatever its scheduler; then ENOENT where the scheduler or
    /// the persistence engine is not known.
    NewService {
        /// Which.
        service: ServiceKey,
        /// How.
        spec: ServiceSpec,
    },
    /// Edits a service. ENOENT as above.
    SetService {
        /// Which.
        service: ServiceKey,
        /// How.
        spec: ServiceSpec,
    },
    /// Deletes a service.
    DelService {
        /// Which.
        service: ServiceKey,
    },
    /// Shows a service: [`Answer::Service`](crate::Answer::Service).
    GetService {
        /// Which.
        service: ServiceKey,
    },
    /// Lists the services: [`Answer::Services`](crate::Answer::Services).
    GetServices,
    /// Adds a server; [`DestSpec::check`] first, then EEXIST where there is one.
    NewDest {
        /// Of which service.
        service: ServiceKey,
        /// Which.
        dest: DestKey,
        /// How.
        spec: DestSpec,
    },
    /// Edits a server; [`DestSpec::check`] first, then ENOENT where there is none.
    SetDest {
        /// Of which service.
        service: ServiceKey,
        /// Which.
        dest: DestKey,
        /// How.
        spec: DestSpec,
    },
    /// Deletes a server. ENOENT where there is none.
    DelDest {
        /// Of which service.
        service: ServiceKey,
        /// Which.
        dest: DestKey,
    },
    /// Lists the servers of a service: [`Answer::Dests`](crate::Answer::Dests). An unknown service has none;
    /// that is no error.
    GetDests {
        /// Of which service.
        service: ServiceKey,
    },
    /// Starts a synchronization daemon. EEXIST where one of this role runs, ENODEV without the interface.
    NewDaemon(Daemon),
    /// Stops a synchronization daemon. ESRCH where none runs.
    DelDaemon {
        /// Which.
        role: DaemonRole,
    },
    /// Lists the synchronization daemons: [`Answer::Daemons`](crate::Answer::Daemons).
    GetDaemons,
    /// Sets timeouts.
    SetConfig(TimeoutChange),
    /// Shows the timeouts: [`Answer::Timeouts`](crate::Answer::Timeouts).
    GetConfig,
    /// Shows version and size: [`Answer::Info`](crate::Answer::Info).
    GetInfo,
    /// Zeroes the counters of one service and its servers, or of all.
    Zero {
        /// Of which; none: of all, and the totals.
        service: Option<ServiceKey>,
    },
    /// Deletes all services.
    Flush,
}

static COMMAND: Policy<7> = Policy {
    nest: "the message",
    attributes: [
        ("", Kind::Any),
        ("IPVS_CMD_ATTR_SERVICE", Kind::Nested),
        ("IPVS_CMD_ATTR_DEST", Kind::Nested),
        ("IPVS_CMD_ATTR_DAEMON", Kind::Nested),
        ("IPVS_CMD_ATTR_TIMEOUT_TCP", Kind::Number(4)),
        ("IPVS_CMD_ATTR_TIMEOUT_TCP_FIN", Kind::Number(4)),
        ("IPVS_CMD_ATTR_TIMEOUT_UDP", Kind::Number(4)),
    ],
    wrong_length: Errno::ERANGE,
};

static CONTROLLER: Policy<3> = Policy {
    nest: "the message",
    attributes: [
        ("", Kind::Any),
        ("CTRL_ATTR_FAMILY_ID", Kind::Number(2)),
        ("CTRL_ATTR_FAMILY_NAME", Kind::Text(15)),
    ],
    wrong_length: Errno::ERANGE,
};

/// Which forms of a command there are: one object, a list, or both.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Single,
    Dump,
    Both,
}

/// The commands of the family, by number, as its registration in the kernel has them.
pub(crate) const COMMANDS: [(u8, &str, Form); 16] = [
    (CMD_NEW_SERVICE, "IPVS_CMD_NEW_SERVICE", Form::Single),
    (CMD_SET_SERVICE, "IPVS_CMD_SET_SERVICE", Form::Single),
    (CMD_DEL_SERVICE, "IPVS_CMD_DEL_SERVICE", Form::Single),
    (CMD_GET_SERVICE, "IPVS_CMD_GET_SERVICE", Form::Both),
    (CMD_NEW_DEST, "IPVS_CMD_NEW_DEST", Form::Single),
    (CMD_SET_DEST, "IPVS_CMD_SET_DEST", Form::Single),
    (CMD_DEL_DEST, "IPVS_CMD_DEL_DEST", Form::Single),
    (CMD_GET_DEST, "IPVS_CMD_GET_DEST", Form::Dump),
    (CMD_NEW_DAEMON, "IPVS_CMD_NEW_DAEMON", Form::Single),
    (CMD_DEL_DAEMON, "IPVS_CMD_DEL_DAEMON", Form::Single),
    (CMD_GET_DAEMON, "IPVS_CMD_GET_DAEMON", Form::Dump),
    (CMD_SET_CONFIG, "IPVS_CMD_SET_CONFIG", Form::Single),
    (CMD_GET_CONFIG, "IPVS_CMD_GET_CONFIG", Form::Single),
    (CMD_GET_INFO, "IPVS_CMD_GET_INFO", Form::Single),
    (CMD_ZERO, "IPVS_CMD_ZERO", Form::Single),
    (CMD_FLUSH, "IPVS_CMD_FLUSH", Form::Single),
];

impl Request {
    /// Reads a message of the type `kind`, header included.
    pub(crate) fn decode(kind: u16, header: &Header, bytes: &[u8]) -> Result<Self, Malformed> {
        if kind != GENL_ID_CTRL && kind != FAMILY_ID {
            return Err(Malformed::UnknownFamily(kind));
        }
        let short = Malformed::Short(bytes.len());
        let payload = bytes.get(NLMSG_HEADER..).unwrap_or_default();
        // struct genlmsghdr: the version and the reserved bytes are not looked at, as the kernel does.
        let ([command, ..], attributes) = payload.split_first_chunk::<GENL_HEADER>().ok_or(short)?;
        if kind == FAMILY_ID {
            Self::decode_ipvs(*command, header.dump(), attributes)
        } else {
            Self::decode_controller(*command, header.dump(), attributes)
        }
    }

    fn decode_controller(command: u8, dump: bool, bytes: &[u8]) -> Result<Self, Malformed> {
        if command != CTRL_CMD_GETFAMILY {
            return Err(Malformed::UnknownCommand { family: GENL_ID_CTRL, command });
        }
        if dump {
            return Ok(Self::GetFamily);
        }
        let attributes = CONTROLLER.read(bytes, NLMSG_HEADER + GENL_HEADER)?;
        // Of an id and a name, the name decides.
        match (attributes.get(CTRL_ATTR_FAMILY_NAME), attributes.get(CTRL_ATTR_FAMILY_ID)) {
            (Some(name), _) => match name.name()?.as_str() {
                FAMILY_NAME => Ok(Self::GetFamily),
                other => Err(Malformed::UnknownFamilyName(other.to_owned())),
            },
            (None, Some(id)) if id.u16() == FAMILY_ID => Ok(Self::GetFamily),
            (None, Some(id)) => Err(Malformed::UnknownFamily(id.u16())),
            (None, None) => Err(Malformed::NoFamilyGiven),
        }
    }

    fn decode_ipvs(command: u8, dump: bool, bytes: &[u8]) -> Result<Self, Malformed> {
        let Some(&(_, name, form)) = COMMANDS.iter().find(|known| known.0 == command) else {
            return Err(Malformed::UnknownCommand { family: FAMILY_ID, command });
        };
        match form {
            Form::Single if dump => return Err(Malformed::NoDump(name)),
            Form::Dump if !dump => return Err(Malformed::DumpOnly(name)),
            _ => {}
        }
        // The kernel reads no attribute for these.
        match command {
            CMD_GET_SERVICE if dump => return Ok(Self::GetServices),
            CMD_GET_DAEMON => return Ok(Self::GetDaemons),
            _ => {}
        }
        let attributes = COMMAND.read(bytes, NLMSG_HEADER + GENL_HEADER)?;
        match command {
            CMD_SET_CONFIG => return TimeoutChange::decode(&attributes).map(Self::SetConfig),
            CMD_GET_CONFIG => return Ok(Self::GetConfig),
            CMD_GET_INFO => return Ok(Self::GetInfo),
            CMD_FLUSH => return Ok(Self::Flush),
            CMD_ZERO if attributes.get(CMD_ATTR_SERVICE).is_none() => {
                return Ok(Self::Zero { service: None });
            }
            CMD_NEW_DAEMON | CMD_DEL_DAEMON => return Self::decode_daemon(command, &attributes),
            _ => {}
        }
        let nest = attributes.need(CMD_ATTR_SERVICE)?.nested(&SERVICE)?;
        let service = ServiceKey::decode(&nest)?;
        let dest = || attributes.need(CMD_ATTR_DEST)?.nested(&DEST);
        Ok(match command {
            CMD_NEW_SERVICE => {
                Self::NewService { service, spec: ServiceSpec::decode(&nest, service.family())? }
            }
            CMD_SET_SERVICE => {
                Self::SetService { service, spec: ServiceSpec::decode(&nest, service.family())? }
            }
            CMD_DEL_SERVICE => Self::DelService { service },
            CMD_GET_SERVICE => Self::GetService { service },
            CMD_ZERO => Self::Zero { service: Some(service) },
            CMD_NEW_DEST => {
                let nest = dest()?;
                let dest = DestKey::decode(&nest, &service)?;
                Self::NewDest { service, dest, spec: DestSpec::decode(&nest)? }
            }
            CMD_SET_DEST => {
                let nest = dest()?;
                let dest = DestKey::decode(&nest, &service)?;
                Self::SetDest { service, dest, spec: DestSpec::decode(&nest)? }
            }
            CMD_DEL_DEST => Self::DelDest { service, dest: DestKey::decode(&dest()?, &service)? },
            CMD_GET_DEST => Self::GetDests { service },
            _ => return Err(Malformed::UnknownCommand { family: FAMILY_ID, command }),
        })
    }

    fn decode_daemon(command: u8, attributes: &Attributes<7>) -> Result<Self, Malformed> {
        let nest = attributes.need(CMD_ATTR_DAEMON)?.nested(&DAEMON)?;
        if command == CMD_NEW_DAEMON {
            return Daemon::decode(&nest).map(Self::NewDaemon);
        }
        let role = DaemonRole::decode(&nest.need(DAEMON_ATTR_STATE)?)?;
        Ok(Self::DelDaemon { role })
    }
}
