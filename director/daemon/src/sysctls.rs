//! The kernel's IPVS sysctls, while the director runs.

use std::collections::BTreeMap;

use director_api::{Answer, Sysctl};
use director_config::{Defense, Invalid, Setting, Sysctls};
use director_engine::snapshot;

use crate::director::State;

/// The switches as the control core obeys them.
pub(crate) fn obeyed(given: &Sysctls) -> snapshot::Sysctls {
    snapshot::Sysctls {
        sloppy_tcp: given.sloppy_tcp.is_on(),
        // It is a mask.
        conn_reuse_mode: given.conn_reuse_mode.get().cast_unsigned(),
        expire_nodest_conn: given.expire_nodest_conn.is_on(),
        drop_packet: given.drop_packet.get().unsigned_abs(),
        // Counting down from a number below 0, the kernel is at the end at once: it drops every packet.
        am_droprate: u32::try_from(given.am_droprate.get()).unwrap_or(1),
        nat_icmp_send: given.nat_icmp_send.is_on(),
        expire_quiescent_template: given.expire_quiescent_template.is_on(),
        drop_entry: given.drop_entry == Defense::Always,
        secure_tcp: given.secure_tcp == Defense::Always,
        schedule_icmp: given.schedule_icmp.is_on(),
        sloppy_sctp: given.sloppy_sctp.is_on(),
        ftp_loose: given.ftp_loose.is_on(),
        pmtu_disc: given.pmtu_disc.is_on(),
    }
}

fn shown(setting: Setting) -> Sysctl {
    match setting {
        Setting::Number(number) => Sysctl::Number(number),
        Setting::Text(text) => Sysctl::Text(text.to_owned()),
    }
}

/// The values of all sysctls, or of one.
pub(crate) fn get(state: &State, name: Option<&str>) -> Answer {
    match name {
        None => {
            let settings = state.sysctls.settings();
            Answer::Sysctls(settings.map(|(name, setting)| (name.to_owned(), shown(setting))).collect())
        }
        Some(name) => one(&state.sysctls, name),
    }
}

/// Sets one. Answers with the value that it then has.
pub(crate) fn set(state: &mut State, name: &str, value: &str) -> Answer {
    let mut sysctls = state.sysctls;
    if let Err(invalid) = sysctls.set(name, value) {
        return refused(invalid);
    }
    state.sysctls = sysctls;
    state.control.set_sysctls(obeyed(&sysctls));
    tracing::info!("{name} is set to {value}");
    one(&sysctls, name)
}

fn one(sysctls: &Sysctls, name: &str) -> Answer {
    match sysctls.get(name) {
        Ok(setting) => Answer::Sysctls(BTreeMap::from([(name.to_owned(), shown(setting))])),
        Err(invalid) => refused(invalid),
    }
}

fn refused(Invalid { reason, help }: Invalid) -> Answer {
    Answer::Error(format!("{reason}; {help}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(settings: &[(&str, &str)]) -> snapshot::Sysctls {
        let mut sysctls = Sysctls::default();
        for (name, value) in settings {
            sysctls.set(name, value).unwrap_or_else(|invalid| panic!("{invalid}"));
        }
        obeyed(&sysctls)
    }

    #[test]
    fn the_defaults_of_the_file_are_those_of_the_control_core() {
        assert_eq!(after(&[]), snapshot::Sysctls::default());
    }

    #[test]
    fn any_integer_means_what_it_does_in_the_kernel() {
        let on = after(&[("sloppy_tcp", "-1"), ("expire_nodest_conn", "5"), ("nat_icmp_send", "2147483647")]);
        assert!(on.sloppy_tcp && on.expire_nodest_conn && on.nat_icmp_send);
        assert!(after(&[("schedule_icmp", "-1")]).schedule_icmp);
        for (value, reused) in [("0", false), ("1", true), ("7", true), ("-2147483648", true)] {
            assert_eq!(after(&[("conn_reuse_mode", value)]).conn_reuse_mode != 0, reused, "{value}");
        }
        for (value, rate) in [("0", 0), ("1", 1), ("2147483647", 2_147_483_647), ("-1", 1), ("-10", 1)] {
            assert_eq!(after(&[("am_droprate", value)]).am_droprate, rate, "{value}");
        }
        for (value, mode) in [("0", 0), ("1", 1), ("2", 1), ("3", 3)] {
            assert_eq!(after(&[("drop_packet", value)]).drop_packet, mode, "{value}");
            assert_eq!(after(&[("drop_entry", value)]).drop_entry, mode == 3, "{value}");
            assert_eq!(after(&[("secure_tcp", value)]).secure_tcp, mode == 3, "{value}");
        }
    }
}
