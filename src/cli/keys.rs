//! What somebody at a terminal presses, and what is meant by it.

use std::io::{self, IsTerminal};
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What somebody wants who has pressed a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// To leave.
    End,
    /// To see what the machine can bear, or no longer.
    Rush,
    /// To see the same again: the terminal has another size.
    Redraw,
    /// To name a user.
    Type(Typed),
}

/// A key that writes a user's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Typed {
    /// One more digit.
    Digit(char),
    /// The last one goes.
    Erase,
    /// That is all of it.
    Enter,
}

/// The keys of a terminal on which no screen is shown yet. Dropped, it is as it was.
pub(super) struct Keys {
    is_raw: bool,
}

impl Keys {
    /// From now on each key is heard at once; without a terminal none is.
    pub(super) fn listen() -> Keys {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        Keys { is_raw: is_terminal && enable_raw_mode().is_ok() }
    }

    /// Whether somebody has asked to leave.
    pub(super) fn is_end(&self) -> bool {
        if !self.is_raw {
            return false;
        }
        loop {
            match next_event(Duration::ZERO) {
                Ok(None) => return false,
                Ok(Some(event)) if wish_of(&event) != Some(Wish::End) => {}
                Ok(Some(_)) | Err(_) => return true,
            }
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if self.is_raw {
            let _ = disable_raw_mode();
        }
    }
}

/// What somebody wants at the terminal, if that is within `patience`.
pub(super) fn next_wish(patience: Duration) -> io::Result<Option<Wish>> {
    Ok(next_event(patience)?.as_ref().and_then(wish_of))
}

/// What somebody does at the terminal, if that is within `patience`. crossterm reads one that was closed for ever, so that it is asked only
/// while there is one.
fn next_event(patience: Duration) -> io::Result<Option<Event>> {
    for patience in [Duration::ZERO, patience] {
        let terminal = io::stdout();
        let mut looked_at = [PollFd::new(&terminal, PollFlags::IN)];
        let patience = Timespec::try_from(patience).expect("a glance is short");
        match poll(&mut looked_at, Some(&patience)) {
            // Another size comes as a signal.
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if looked_at[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            return Err(Errno::IO.into());
        }
        if event::poll(Duration::ZERO)? {
            return event::read().map(Some);
        }
    }
    Ok(None)
}

/// What somebody wants who has done this.
fn wish_of(event: &Event) -> Option<Wish> {
    match event {
        Event::Key(key) => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Wish::End),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::End),
            KeyCode::Char('l') => Some(Wish::Rush),
            KeyCode::Char(digit) if digit.is_ascii_digit() => Some(Wish::Type(Typed::Digit(digit))),
            KeyCode::Backspace => Some(Wish::Type(Typed::Erase)),
            KeyCode::Enter => Some(Wish::Type(Typed::Enter)),
            _ => None,
        },
        Event::Resize(..) => Some(Wish::Redraw),
        _ => None,
    }
}
