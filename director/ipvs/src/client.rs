//! The client's side: requests as `ipvsadm` sends them.

use crate::service::ServiceKey;
use crate::uapi::*;
use crate::writer::{MessageHeader, Writer};
use crate::{DestKey, DestSpec, Header, Request};

/// The message of a request. What the request needs (`NLM_F_REQUEST`, `NLM_F_DUMP` for lists) is added to
/// the header's flags; `NLM_F_ACK` is the caller's choice.
#[must_use]
pub fn encode(request: &Request, header: &Header) -> Vec<u8> {
    let mut writer = Writer::default();
    let (command, flags) = match request {
        Request::Nothing => {
            let kind = 1; // NLMSG_NOOP
            writer.message(message_header(header, kind, NLM_F_REQUEST), |_| {});
            return writer.into_bytes();
        }
        Request::GetFamily => {
            let header = message_header(header, GENL_ID_CTRL, NLM_F_REQUEST);
            writer.generic(header, CTRL_CMD_GETFAMILY, 1, |writer| {
                writer.text(CTRL_ATTR_FAMILY_NAME, FAMILY_NAME);
            });
            return writer.into_bytes();
        }
        Request::NewService { .. } => (CMD_NEW_SERVICE, 0),
        Request::SetService { .. } => (CMD_SET_SERVICE, 0),
        Request::DelService { .. } => (CMD_DEL_SERVICE, 0),
        Request::GetService { .. } => (CMD_GET_SERVICE, 0),
        Request::GetServices => (CMD_GET_SERVICE, NLM_F_DUMP),
        Request::NewDest { .. } => (CMD_NEW_DEST, 0),
        Request::SetDest { .. } => (CMD_SET_DEST, 0),
        Request::DelDest { .. } => (CMD_DEL_DEST, 0),
        Request::GetDests { .. } => (CMD_GET_DEST, NLM_F_DUMP),
        Request::NewDaemon(_) => (CMD_NEW_DAEMON, 0),
        Request::DelDaemon { .. } => (CMD_DEL_DAEMON, 0),
        Request::GetDaemons => (CMD_GET_DAEMON, NLM_F_DUMP),
        Request::SetConfig(_) => (CMD_SET_CONFIG, 0),
        Request::GetConfig => (CMD_GET_CONFIG, 0),
        Request::GetInfo => (CMD_GET_INFO, 0),
        Request::Zero { .. } => (CMD_ZERO, 0),
        Request::Flush => (CMD_FLUSH, 0),
    };
    let header = message_header(header, FAMILY_ID, NLM_F_REQUEST | flags);
    writer.generic(header, command, FAMILY_VERSION, |writer| body(request, writer));
    writer.into_bytes()
}

fn message_header(header: &Header, kind: u16, flags: u16) -> MessageHeader {
    MessageHeader { kind, flags: header.flags | flags, sequence: header.sequence, port: header.port }
}

fn body(request: &Request, writer: &mut Writer) {
    match request {
        Request::NewService { service, spec } | Request::SetService { service, spec } => {
            writer.nest(CMD_ATTR_SERVICE | NLA_F_NESTED, |writer| {
                service.encode(writer);
                spec.encode(writer);
            });
        }
        Request::DelService { service }
        | Request::GetService { service }
        | Request::GetDests { service }
        | Request::Zero { service: Some(service) } => encode_service(writer, service),
        Request::NewDest { service, dest, spec } | Request::SetDest { service, dest, spec } => {
            encode_service(writer, service);
            encode_dest(writer, dest, Some(spec));
        }
        Request::DelDest { service, dest } => {
            encode_service(writer, service);
            encode_dest(writer, dest, None);
        }
        Request::NewDaemon(daemon) => daemon.encode(writer),
        Request::DelDaemon { role } => {
            writer.nest(CMD_ATTR_DAEMON | NLA_F_NESTED, |writer| role.encode(writer));
        }
        Request::SetConfig(change) => change.encode(writer),
        Request::Nothing
        | Request::GetFamily
        | Request::GetServices
        | Request::GetDaemons
        | Request::GetConfig
        | Request::GetInfo
        | Request::Zero { service: None }
        | Request::Flush => {}
    }
}

fn encode_service(writer: &mut Writer, service: &ServiceKey) {
    writer.nest(CMD_ATTR_SERVICE | NLA_F_NESTED, |writer| service.encode(writer));
}

fn encode_dest(writer: &mut Writer, dest: &DestKey, spec: Option<&DestSpec>) {
    writer.nest(CMD_ATTR_DEST | NLA_F_NESTED, |writer| {
        dest.encode(writer);
        dest.encode_family(writer);
        if let Some(spec) = spec {
            spec.encode(writer);
        }
    });
}
