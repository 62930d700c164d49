//! What is refused, and how.

use crate::uapi::*;
use crate::writer::{MessageHeader, Writer};
use crate::{Errno, FramingError, Malformed, Messages, Request};

/// One IPVS message with these attributes.
fn message(command: u8, flags: u16, attributes: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    let header = MessageHeader { kind: FAMILY_ID, flags: NLM_F_REQUEST | flags, sequence: 1, port: 2 };
    writer.generic(header, command, FAMILY_VERSION, attributes);
    writer.into_bytes()
}

fn request(bytes: &[u8]) -> Result<Request, Malformed> {
    let mut messages = Messages::new(bytes);
    let message = messages.next().unwrap().unwrap();
    assert!(messages.next().is_none());
    message.request
}

fn errno(bytes: &[u8]) -> Errno {
    request(bytes).unwrap_err().errno()
}

/// The attributes that name a TCP service, those whose number is in `without` left out.
fn service(writer: &mut Writer, without: &[u16]) {
    let mut attribute = |kind, value: &[u8]| {
        if !without.contains(&kind) {
            writer.attribute(kind, value);
        }
    };
    attribute(SVC_ATTR_AF, &2_u16.to_ne_bytes());
    attribute(SVC_ATTR_PROTOCOL, &6_u16.to_ne_bytes());
    attribute(SVC_ATTR_ADDR, &[192, 168, 18, 58]);
    attribute(SVC_ATTR_PORT, &80_u16.to_be_bytes());
    attribute(SVC_ATTR_SCHED_NAME, b"rr\0");
    attribute(SVC_ATTR_FLAGS, &[0; 8]);
    attribute(SVC_ATTR_TIMEOUT, &[0; 4]);
    attribute(SVC_ATTR_NETMASK, &[255; 4]);
}

fn dest(writer: &mut Writer, without: &[u16]) {
    let mut attribute = |kind, value: &[u8]| {
        if !without.contains(&kind) {
            writer.attribute(kind, value);
        }
    };
    attribute(DEST_ATTR_ADDR, &[192, 168, 2, 71]);
    attribute(DEST_ATTR_PORT, &80_u16.to_be_bytes());
    attribute(DEST_ATTR_FWD_METHOD, &[0; 4]);
    attribute(DEST_ATTR_WEIGHT, &1_u32.to_ne_bytes());
    attribute(DEST_ATTR_U_THRESH, &[0; 4]);
    attribute(DEST_ATTR_L_THRESH, &[0; 4]);
}

#[test]
fn every_needed_attribute_of_a_service_is_missed() {
    let with = |command, without: &[u16]| {
        message(command, 0, |writer| writer.nest(CMD_ATTR_SERVICE, |writer| service(writer, without)))
    };
    let names = [SVC_ATTR_AF, SVC_ATTR_PROTOCOL, SVC_ATTR_ADDR, SVC_ATTR_PORT];
    let options = [SVC_ATTR_SCHED_NAME, SVC_ATTR_FLAGS, SVC_ATTR_TIMEOUT, SVC_ATTR_NETMASK];
    for command in [CMD_NEW_SERVICE, CMD_SET_SERVICE, CMD_DEL_SERVICE, CMD_GET_SERVICE, CMD_ZERO] {
        assert!(request(&with(command, &[])).is_ok(), "{command}");
        for name in names {
            assert_eq!(errno(&with(command, &[name])), Errno::EINVAL, "{command} {name}");
        }
        // What only names a service needs none of its options.
        let full = matches!(command, CMD_NEW_SERVICE | CMD_SET_SERVICE);
        for option in options {
            assert_eq!(request(&with(command, &[option])).is_err(), full, "{command} {option}");
        }
    }
    let missing = request(&with(CMD_NEW_SERVICE, &[SVC_ATTR_PORT])).unwrap_err();
    assert_eq!(missing.to_string(), "IPVS_CMD_ATTR_SERVICE at byte 24 lacks IPVS_SVC_ATTR_PORT");
    for command in [CMD_NEW_SERVICE, CMD_DEL_SERVICE, CMD_GET_SERVICE, CMD_NEW_DEST, CMD_DEL_DEST] {
        assert_eq!(errno(&message(command, 0, |_| {})), Errno::EINVAL, "{command} without a service");
    }
}

#[test]
fn every_needed_attribute_of_a_server_is_missed() {
    let with = |command, without: &[u16]| {
        message(command, 0, |writer| {
            writer.nest(CMD_ATTR_SERVICE, |writer| service(writer, &[]));
            writer.nest(CMD_ATTR_DEST, |writer| dest(writer, without));
        })
    };
    let options = [DEST_ATTR_FWD_METHOD, DEST_ATTR_WEIGHT, DEST_ATTR_U_THRESH, DEST_ATTR_L_THRESH];
    for command in [CMD_NEW_DEST, CMD_SET_DEST, CMD_DEL_DEST] {
        assert!(request(&with(command, &[])).is_ok(), "{command}");
        for name in [DEST_ATTR_ADDR, DEST_ATTR_PORT] {
            assert_eq!(errno(&with(command, &[name])), Errno::EINVAL, "{command} {name}");
        }
        for option in options {
            let result = request(&with(command, &[option]));
            assert_eq!(result.is_err(), command != CMD_DEL_DEST, "{command} {option}");
        }
        let alone =
            message(command, 0, |writer| writer.nest(CMD_ATTR_SERVICE, |writer| service(writer, &[])));
        assert_eq!(errno(&alone), Errno::EINVAL, "{command} without a server");
    }
}

/// A service that ends in one more attribute, which replaces the one before.
fn service_with(kind: u16, value: &[u8]) -> Vec<u8> {
    message(CMD_NEW_SERVICE, 0, |writer| {
        writer.nest(CMD_ATTR_SERVICE, |writer| {
            service(writer, &[]);
            writer.attribute(kind, value);
        });
    })
}

#[test]
fn values_without_sense_are_refused() {
    for (kind, value, expected) in [
        (SVC_ATTR_AF, &1_u16.to_ne_bytes()[..], Errno::EAFNOSUPPORT),
        (SVC_ATTR_AF, &[2], Errno::EINVAL),
        (SVC_ATTR_ADDR, &[0; 17], Errno::EINVAL),
        (SVC_ATTR_FLAGS, &[0; 9], Errno::EINVAL),
        (SVC_ATTR_TIMEOUT, &[0; 3], Errno::EINVAL),
        (SVC_ATTR_TIMEOUT, &2_678_401_u32.to_ne_bytes(), Errno::EINVAL),
        (SVC_ATTR_SCHED_NAME, b"rr", Errno::EINVAL),
        (SVC_ATTR_SCHED_NAME, b"", Errno::EINVAL),
        (SVC_ATTR_SCHED_NAME, b"sixteen letters!\0", Errno::EINVAL),
        (SVC_ATTR_PE_NAME, b"seventeen letters\0", Errno::EINVAL),
        (SVC_ATTR_STATS, &[0; 3], Errno::EINVAL),
    ] {
        assert_eq!(errno(&service_with(kind, value)), expected, "{kind} {value:?}");
    }
    let family = request(&service_with(SVC_ATTR_AF, &1_u16.to_ne_bytes())).unwrap_err().to_string();
    assert_eq!(family, "IPVS_SVC_ATTR_AF at byte 92 is 1; the families are 2 (IPv4) and 10 (IPv6)");

    let daemon = |kind, value: &[u8]| {
        message(CMD_NEW_DAEMON, 0, |writer| {
            writer.nest(CMD_ATTR_DAEMON, |writer| {
                writer.u32(DAEMON_ATTR_STATE, 1);
                writer.text(DAEMON_ATTR_MCAST_IFN, "eth0");
                writer.u32(DAEMON_ATTR_SYNC_ID, 0);
                writer.attribute(kind, value);
            });
        })
    };
    assert!(request(&daemon(0, &[])).is_ok());
    for (kind, value) in [
        (DAEMON_ATTR_STATE, &3_u32.to_ne_bytes()[..]),
        (DAEMON_ATTR_MCAST_GROUP, &[192, 168, 18, 58]),
        (DAEMON_ATTR_MCAST_GROUP6, &[0xff; 4]),
        (DAEMON_ATTR_MCAST_GROUP6, &[0x20; 16]),
        (DAEMON_ATTR_MCAST_IFN, b"an interface of 20 b\0"),
    ] {
        assert_eq!(errno(&daemon(kind, value)), Errno::EINVAL, "{kind} {value:?}");
    }
    let timeout =
        |value: &[u8]| message(CMD_SET_CONFIG, 0, |writer| writer.attribute(CMD_ATTR_TIMEOUT_TCP, value));
    assert_eq!(errno(&timeout(&(-1_i32).to_ne_bytes())), Errno::EINVAL);
    assert_eq!(errno(&timeout(&2_678_401_u32.to_ne_bytes())), Errno::EINVAL);
    assert!(request(&timeout(&2_678_400_u32.to_ne_bytes())).is_ok());
    // On the outer level the kernel's own check speaks.
    assert_eq!(errno(&timeout(&[0; 2])), Errno::ERANGE);
}

#[test]
fn what_the_kernel_is_lenient_about_passes() {
    let ok = |kind, value: &[u8]| request(&service_with(kind, value)).unwrap();
    let plain = ok(99, b"unknown");
    // Numbers may be longer, addresses and flags shorter; an unknown type does not matter.
    assert_eq!(ok(SVC_ATTR_TIMEOUT, &[0; 8]), plain);
    assert_eq!(ok(SVC_ATTR_FLAGS, &[]), plain);
    assert_eq!(ok(SVC_ATTR_STATS64, &[1]), plain);
    assert_eq!(ok(SVC_ATTR_PE_NAME, b"\0"), plain);
    // The bits beside the type do not belong to it.
    assert_ne!(ok(SVC_ATTR_TIMEOUT | NLA_F_NESTED, &[1, 1, 1, 0]), plain);
    // Bytes that are no attribute end the list.
    assert_eq!(ok(99, &[0xff; 5]), plain);
    let cut = message(CMD_DEL_SERVICE, 0, |writer| {
        writer.nest(CMD_ATTR_SERVICE, |writer| {
            service(writer, &[SVC_ATTR_AF]);
            writer.raw(&[200, 0, 1, 0, 2, 0]);
        });
    });
    assert_eq!(
        request(&cut).unwrap_err().to_string(),
        "IPVS_CMD_ATTR_SERVICE at byte 24 lacks IPVS_SVC_ATTR_AF (its last 6 bytes form no attribute)"
    );
}

#[test]
fn a_mark_of_zero_is_no_mark() {
    let zero = message(CMD_DEL_SERVICE, 0, |writer| {
        writer.nest(CMD_ATTR_SERVICE, |writer| {
            writer.u16(SVC_ATTR_AF, 2);
            writer.u32(SVC_ATTR_FWMARK, 0);
        });
    });
    let Ok(Request::DelService { service }) = request(&zero) else { panic!("{:?}", request(&zero)) };
    assert_eq!(service.to_string(), "TCP 0.0.0.0:0");
}

#[test]
fn commands_that_are_not_there() {
    for command in [0, CMD_SET_INFO, 18, 255] {
        assert_eq!(errno(&message(command, 0, |_| {})), Errno::EOPNOTSUPP, "{command}");
    }
    // A listing of what has none, and the other way around.
    assert_eq!(errno(&message(CMD_NEW_SERVICE, NLM_F_DUMP, |_| {})), Errno::EOPNOTSUPP);
    assert_eq!(errno(&message(CMD_GET_DEST, 0, |_| {})), Errno::EOPNOTSUPP);
    assert_eq!(errno(&message(CMD_GET_DAEMON, 0, |_| {})), Errno::EOPNOTSUPP);
    // One bit of the two is no dump.
    assert_eq!(errno(&message(CMD_GET_SERVICE, 0x100, |_| {})), Errno::EINVAL);
    assert_eq!(request(&message(CMD_GET_SERVICE, NLM_F_DUMP, |_| {})), Ok(Request::GetServices));
}

#[test]
fn families_that_are_not_there() {
    let controller = |command, attributes: &dyn Fn(&mut Writer)| {
        let mut writer = Writer::default();
        let header = MessageHeader { kind: GENL_ID_CTRL, flags: NLM_F_REQUEST, sequence: 1, port: 2 };
        writer.generic(header, command, 1, attributes);
        writer.into_bytes()
    };
    let named = |name| controller(CTRL_CMD_GETFAMILY, &|writer| writer.text(CTRL_ATTR_FAMILY_NAME, name));
    let numbered = |id| controller(CTRL_CMD_GETFAMILY, &|writer| writer.u16(CTRL_ATTR_FAMILY_ID, id));
    assert_eq!(request(&named("IPVS")), Ok(Request::GetFamily));
    assert_eq!(request(&numbered(FAMILY_ID)), Ok(Request::GetFamily));
    assert_eq!(errno(&named("ipvs")), Errno::ENOENT);
    assert_eq!(errno(&numbered(FAMILY_ID + 1)), Errno::ENOENT);
    assert_eq!(errno(&controller(CTRL_CMD_GETFAMILY, &|_| {})), Errno::EINVAL);
    assert_eq!(errno(&controller(CTRL_CMD_NEWFAMILY, &|_| {})), Errno::EOPNOTSUPP);

    let mut other = message(CMD_GET_INFO, 0, |_| {});
    other[4..6].copy_from_slice(&(FAMILY_ID + 1).to_ne_bytes());
    assert_eq!(errno(&other), Errno::ENOENT);
    let mut short = message(CMD_GET_INFO, 0, |_| {});
    short.truncate(18);
    short[0] = 18;
    assert_eq!(request(&short), Err(Malformed::Short(18)));
}

#[test]
fn what_is_no_request_is_let_be() {
    let mut reply = message(CMD_GET_INFO, 0, |_| {});
    reply[6..8].copy_from_slice(&0_u16.to_ne_bytes());
    assert_eq!(request(&reply), Ok(Request::Nothing));
    let mut control = message(CMD_GET_INFO, 0, |_| {});
    control[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
    assert_eq!(request(&control), Ok(Request::Nothing));
}

#[test]
fn reading_ends_where_a_length_cannot_be() {
    let info = message(CMD_GET_INFO, 0, |_| {});
    let mut two = [info.as_slice(), &info].concat();
    assert_eq!(Messages::new(&two).filter(Result::is_ok).count(), 2);
    two.extend([1, 2, 3]);
    let last = Messages::new(&two).nth(2).unwrap();
    assert_eq!(last.unwrap_err(), FramingError::Short { offset: 40, length: 3 });
    two.truncate(40);
    two[20..24].copy_from_slice(&21_u32.to_ne_bytes());
    let mut messages = Messages::new(&two);
    assert!(messages.next().unwrap().is_ok());
    let error = messages.next().unwrap().unwrap_err();
    assert_eq!(error, FramingError::Length { offset: 20, claimed: 21, left: 20 });
    assert!(messages.next().is_none());
    two[20..24].copy_from_slice(&15_u32.to_ne_bytes());
    assert!(Messages::new(&two).nth(1).unwrap().is_err());
}
