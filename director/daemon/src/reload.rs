//! The configuration file, read again while the director runs.

use std::sync::Arc;

use anyhow::Context;
use director_api::{Answer, Reloaded};
use director_config::{Config, Errors};
use director_engine::catalog::CatalogError;
use tokio::signal::unix::Signal;

use crate::addresses::Addresses;
use crate::beside::beside;
use crate::director::Director;
use crate::next_hops::NextHops;
use crate::plan::Plan;
use crate::{local_ports, mirror};

/// Why nothing has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The file is wrong, or changes what cannot change.
    #[error("the configuration file is refused, and nothing was changed:\n{0}")]
    File(Errors),
    /// A change that was made for the services there are was refused. That cannot be, and must be told if it is.
    #[error("a part of the configuration file was applied, and then: {0}")]
    Half(CatalogError),
    /// Something else.
    #[error("the configuration file was not read again, and nothing was changed: {0:#}")]
    Other(#[from] anyhow::Error),
}

impl Director {
    /// Reads the file again and brings the director to it: all of it, or nothing if that cannot be.
    pub(crate) async fn reload(&self) -> Result<Reloaded, Refusal> {
        let _alone = self.reloading.lock().await;
        let before = self.config.borrow().clone();
        let running = before.clone();
        // A long file takes long to read, and timers and twins are not to wait.
        let read = beside(move || Config::load_again(running.file(), &running)).await;
        let config = Arc::new(read.context("reading the file")?.map_err(Refusal::File)?);
        local_ports::check(&config)?;
        let (connection, handle, _) = rtnetlink::new_connection().context("asking the kernel")?;
        tokio::task::spawn_local(connection);
        // What the mirror has may be some milliseconds old.
        let seen = mirror::read_interfaces(&handle).await?;
        let interface_of =
            seen.interfaces.iter().map(|(index, interface)| (interface.name.clone(), *index)).collect();
        let addresses = Addresses::new(&before, &config, &interface_of, &seen.addresses)?;
        let next_hops = NextHops::new(Some(&before), &config, &interface_of);
        addresses.add(&handle).await?;
        let mut missing = match next_hops.add(&handle).await {
            Ok(missing) => missing,
            Err(error) => {
                addresses.undo(&handle).await;
                return Err(error.into());
            }
        };
        let mut changes = [addresses.lines(), next_hops.lines()].concat();
        match self.change(&before, &config) {
            Ok(mut lines) => changes.append(&mut lines),
            Err(refusal) => {
                next_hops.undo(&handle).await;
                addresses.undo(&handle).await;
                return Err(refusal);
            }
        }
        next_hops.delete(&handle).await;
        missing.append(&mut addresses.delete(&handle).await);
        self.set_static_neighbours(Some(&before), &config);
        self.config.replace(config.clone());
        self.rerouted.notify_one();
        let file = config.file();
        tracing::info!("read {} again: {} changes", file.display(), changes.len());
        for line in &changes {
            tracing::debug!("{line}");
        }
        missing.iter().for_each(|line| tracing::warn!("not as the file says: {line}"));
        let warnings = config.warnings();
        let warnings = if warnings.is_empty() { String::new() } else { warnings.to_string() };
        Ok(Reloaded { file: file.display().to_string(), changes, missing, warnings })
    }

    /// Brings the control core to a configuration; says what has changed.
    fn change(&self, before: &Config, config: &Config) -> Result<Vec<String>, Refusal> {
        let state = &mut *self.state.borrow_mut();
        let plan = Plan::new(Some(before), config, &state.control, &state.sysctls)?;
        let (lines, sysctls) = (plan.lines(), plan.sysctls());
        plan.apply(&mut state.control).map_err(Refusal::Half)?;
        state.sysctls = sysctls;
        Ok(lines)
    }

    /// The same for a client of the control socket.
    pub(crate) async fn answer_reload(&self) -> Answer {
        match self.reload().await {
            Ok(reloaded) => Answer::Reloaded(reloaded),
            Err(refusal) => {
                tracing::error!("{refusal}");
                match refusal {
                    Refusal::File(errors) => Answer::WrongFile(errors.to_string()),
                    Refusal::Half(_) => Answer::Error(refusal.to_string()),
                    Refusal::Other(error) => Answer::Error(format!("{error:#}")),
                }
            }
        }
    }

    /// The same with each signal, for ever.
    pub(crate) async fn reload_by(&self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            match self.reload().await {
                Ok(Reloaded { warnings, .. }) if !warnings.is_empty() => tracing::warn!("{warnings}"),
                Ok(_) => {}
                Err(refusal) => tracing::error!("{refusal}"),
            }
        }
    }
}
