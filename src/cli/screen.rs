//! What `florin top` and the demonstration show of a node: a screen on a terminal, a line a second elsewhere.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use florin_schema::printable_lines;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};
use ratatui::{DefaultTerminal, Frame};
use rustix::io::Errno;

use super::keys::{Wish, next_wish};
use crate::admin::activity::{Activity, Answers, Caller, Load, Partition, Peer, Said, Shard, Weight};
use crate::limits::SCREEN_PANEL_LINES;
use crate::numbers::{counted, grouped};

/// Seconds that the history of requests reaches back.
pub(super) const HISTORY: usize = 240;

const HEADINGS: [&str; 12] = [
    "shard",
    "CPU",
    "busy",
    "reads/s",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "lag ms",
    "applied/s",
    "accounts",
    "conns",
    "MiB",
];

/// Everything that is shown at one moment.
pub(super) struct Page<'a> {
    /// What the node is doing, or was when it was last heard of.
    pub(super) activity: &'a Activity,
    /// What is to be known before all else, such as what stands in the way of knowing more.
    pub(super) remark: Option<(&'a str, Weight)>,
    /// Reads per second, the newest last.
    pub(super) history: &'a [u64],
    /// Who was refused last, and why, the newest first.
    pub(super) refusals: &'a [String],
    /// What one user was answered.
    pub(super) user: &'a [String],
    /// Commands to try.
    pub(super) commands: &'a [String],
    /// What the keys do.
    pub(super) keys: &'a str,
}

/// Reads per second, the newest last.
pub(super) struct History(Vec<u64>);

impl History {
    /// Nothing is known.
    pub(super) fn new() -> History {
        History(vec![0; HISTORY])
    }

    /// One more; a first look knows no rate.
    pub(super) fn note(&mut self, activity: &Activity) {
        if activity.over_s > 0.0 {
            self.0.rotate_left(1);
            self.0[HISTORY - 1] = activity.node.reads_per_s.round() as u64;
        }
    }

    pub(super) fn as_slice(&self) -> &[u64] {
        &self.0
    }
}

/// Where pages are shown. Dropped, a terminal is as it was.
pub(super) enum Stage {
    /// On a terminal.
    Screen(Box<DefaultTerminal>),
    /// A line each.
    Lines,
}

impl Stage {
    /// Whether there is a terminal to draw on.
    pub(super) fn has_screen() -> bool {
        io::stdout().is_terminal()
    }

    /// The terminal, where there is one.
    pub(super) fn open() -> io::Result<Stage> {
        match Stage::has_screen() {
            true => Ok(Stage::Screen(Box::new(ratatui::try_init()?))),
            false => Ok(Stage::Lines),
        }
    }

    /// Shows a page.
    pub(super) fn show(&mut self, page: &Page<'_>) -> io::Result<()> {
        match self {
            Stage::Screen(terminal) => terminal.draw(|frame| draw(frame, page)).map(drop),
            Stage::Lines => {
                let mut out = io::stdout().lock();
                match page.remark {
                    Some((words, Weight::Fault)) => writeln!(out, "{}", printable_lines(words)),
                    _ => writeln!(out, "{}", printable_lines(&line(page.activity))),
                }
            }
        }
    }

    /// Waits so long for a key that means something.
    pub(super) fn wish(&self, patience: Duration) -> io::Result<Option<Wish>> {
        match self {
            Stage::Screen(_) => next_wish(patience),
            Stage::Lines => {
                thread::sleep(patience);
                Ok(None)
            }
        }
    }
}

/// A reader of lines who has seen enough, or a terminal that was closed, ends what is shown, and that is no error.
pub(super) fn until_left(outcome: io::Result<()>) -> io::Result<()> {
    let is_closed = |error: &io::Error| error.raw_os_error() == Some(Errno::IO.raw_os_error());
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe || is_closed(&error) => Ok(()),
        outcome => outcome,
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // One that was closed cannot be restored. ratatui would write that to it, twice, and panic where that fails.
        if matches!(self, Stage::Screen(_)) && ratatui::try_restore().is_err() {
            std::mem::forget(std::mem::replace(self, Stage::Lines));
        }
    }
}

/// Draws the screen.
fn draw(frame: &mut Frame<'_>, page: &Page<'_>) {
    let activity = page.activity;
    let (answers, callers, nodes) = (answers(activity), callers(activity), nodes(activity));
    let width = usize::from(frame.area().width);
    let remarks = page.remark.map_or_else(Vec::new, |(words, _)| wrapped(words, width));
    let sentences: Vec<Line<'_>> =
        activity.said.iter().flat_map(|said| sentence(said, width.saturating_sub(2))).collect();
    let keys = wrapped(page.keys, width);
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(cells_of(remarks.len()).clamp(1, frame.area().height.max(4) / 4)),
        // These before all else, and room for others however many shards there are.
        Constraint::Length(height(sentences.len()).min(frame.area().height / 3)),
        Constraint::Length(height(activity.shards.len() + 2).min(frame.area().height / 2)),
        Constraint::Min(height(answers.len()).max(4)),
        Constraint::Max(height(nodes.len())),
        Constraint::Max(height(callers.len())),
        // A line each, whose end is its reason.
        Constraint::Max(height(page.refusals.len().min(SCREEN_PANEL_LINES))),
        Constraint::Max(height(page.user.len())),
        Constraint::Length(height(page.commands.len())),
        Constraint::Length(cells_of(keys.len()).max(1)),
    ]);
    let [top, remark, said, table, lately, among, who, why, user, commands, bottom] =
        rows.areas(frame.area());
    frame.render_widget(Paragraph::new(title(activity)), top);
    if let Some((_, weight)) = page.remark {
        let lines: Vec<_> = remarks.into_iter().map(|line| line.bold().fg(color(weight)).into()).collect();
        frame.render_widget(Paragraph::new::<Vec<Line<'_>>>(lines), remark);
    }
    frame.render_widget(panel(" how it stands ", sentences.into_iter()), said);
    frame.render_widget(shard_table(activity, table), table);
    let [history, answered] = Layout::horizontal([Constraint::Fill(1), Constraint::Length(52)]).areas(lately);
    let newest = page.history.len().saturating_sub(usize::from(history.width.saturating_sub(2)));
    let sparkline = Sparkline::default().data(&page.history[newest..]).style(Style::new().cyan());
    let most = page.history[newest..].iter().max().copied().unwrap_or_default();
    let block = Block::bordered().title(format!(" reads/s, {} at most ", grouped(most)));
    frame.render_widget(sparkline.block(block), history);
    frame.render_widget(panel(" answers ", answers.into_iter().map(Line::raw)), answered);
    let refusals = page.refusals.iter().take(SCREEN_PANEL_LINES).map(|line| Line::raw(line.as_str()));
    frame.render_widget(panel(" nodes ", nodes.into_iter().map(Line::raw)), among);
    frame.render_widget(panel(" callers ", callers.into_iter().map(Line::raw)), who);
    frame.render_widget(panel(" last refusals ", refusals), why);
    frame.render_widget(panel(" one user ", page.user.iter().map(|line| Line::raw(line.as_str()))), user);
    let shown = page.commands.iter().map(|command| Line::raw(command.as_str()));
    frame.render_widget(panel(" try these elsewhere ", shown), commands);
    let keys: Vec<Line<'_>> = keys.into_iter().map(Line::raw).collect();
    frame.render_widget(Paragraph::new(keys).alignment(Alignment::Right).dim(), bottom);
}

fn panel<'a>(title: &'a str, lines: impl Iterator<Item = Line<'a>>) -> Paragraph<'a> {
    Paragraph::new(lines.collect::<Vec<_>>()).block(Block::bordered().title(title))
}

/// Of a panel with so many lines; one without any is left out.
fn height(lines: usize) -> u16 {
    if lines == 0 { 0 } else { cells_of(lines).saturating_add(2) }
}

/// By status.
fn answers(activity: &Activity) -> Vec<String> {
    let line = |of: &Answers| {
        let lately = grouped(of.per_s.round() as u64);
        format!("{:<18} {lately:>11}/s {:>16}", of.status, grouped(of.total))
    };
    activity.answers.iter().map(line).collect()
}

/// Callers that are known by name: those that are connected or were refused, the most refused first.
fn callers(activity: &Activity) -> Vec<String> {
    let refused = |of: &Caller| of.shed + of.turned_away;
    let mut callers: Vec<&Caller> =
        activity.callers.iter().filter(|of| of.connections > 0 || refused(of) > 0).collect();
    callers.sort_by_key(|of| std::cmp::Reverse(refused(of)));
    let more = callers.len().checked_sub(SCREEN_PANEL_LINES).filter(|more| *more > 0);
    let line = |of: &&Caller| {
        let (connections, shed) = (counted(of.connections, "connection"), counted(of.shed, "request"));
        format!("{}: {connections}; refused {shed}, {}", of.name, counted(of.turned_away, "connection"))
    };
    let shown = callers.iter().take(SCREEN_PANEL_LINES - usize::from(more.is_some())).map(line);
    shown.chain(more.map(|more| format!("and {} more", more + 1))).collect()
}

/// Nodes that divide the users, this one first, and what is furthest behind of what it follows.
fn nodes(activity: &Activity) -> Vec<String> {
    let mut nodes: Vec<&Peer> = activity.nodes.iter().collect();
    nodes.sort_by_key(|of| !of.is_this);
    let line = |of: &&Peer| {
        let this = if of.is_this { " (this one)" } else { "" };
        let (owns, stands_by) = (counted(of.owns as u64, "partition"), of.stands_by);
        format!("{}{this}: owner of {owns}, standby of {stands_by}", of.address)
    };
    // One is for what is behind.
    let room = SCREEN_PANEL_LINES - 1;
    let more = nodes.len().checked_sub(room).filter(|more| *more > 0);
    let shown = nodes.iter().take(room - usize::from(more.is_some())).map(line);
    let shown = shown.chain(more.map(|more| format!("and {} more", more + 1)));
    let behind = |of: &Partition| {
        let lag = of.lag_records.filter(|lag| *lag > 0)?;
        Some(format!("{} ({}) by {}", of.partition, of.role, counted(lag, "record")))
    };
    // As many as fit a line.
    let behind: Vec<String> =
        activity.partitions.iter().filter_map(behind).take(SCREEN_PANEL_LINES / 2).collect();
    let behind = (!behind.is_empty()).then(|| format!("furthest behind: partition {}", behind.join(", ")));
    shown.chain(behind).collect()
}

/// So many cells of the terminal.
fn cells_of(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn title(activity: &Activity) -> Line<'static> {
    let seconds = activity.uptime_s as u64;
    Line::from(vec![
        "florin ".bold(),
        activity.version.clone().bold(),
        format!(
            "   {} accounts on the {} driver   {} MiB   up {:02}:{:02}:{:02}",
            grouped(activity.node.accounts),
            activity.driver,
            activity.memory_bytes.map_or_else(|| "-".to_owned(), |bytes| grouped(bytes >> 20)),
            seconds / 3_600,
            seconds / 60 % 60,
            seconds % 60
        )
        .into(),
    ])
}

/// A sentence on as many lines as it takes.
fn sentence(said: &Said, width: usize) -> impl Iterator<Item = Line<'static>> {
    let about = format!("{}: ", said.about);
    let lines = wrapped(&format!("{about}{}", said.words), width);
    let color = color(said.weight);
    lines.into_iter().enumerate().map(move |(index, line)| match line.strip_prefix(about.as_str()) {
        Some(words) if index == 0 => {
            Line::from(vec![about.clone().fg(color).bold(), words.to_owned().into()])
        }
        _ => Line::raw(line),
    })
}

/// A text on lines of so many characters, broken where words end.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut blanks = "";
    for piece in text.split_inclusive(' ') {
        let word = piece.trim_end_matches(' ');
        match lines.last_mut() {
            Some(line) if line.chars().count() + blanks.len() + word.chars().count() <= width => {
                line.push_str(blanks);
                line.push_str(word);
                blanks = &piece[word.len()..];
            }
            // Blanks belong to no word: what sets words off stands between two of them.
            Some(_) if word.is_empty() => {}
            _ => {
                lines.push(word.to_owned());
                blanks = &piece[word.len()..];
            }
        }
    }
    lines
}

fn color(weight: Weight) -> Color {
    match weight {
        Weight::Well => Color::Green,
        Weight::Note => Color::Yellow,
        Weight::Fault => Color::Red,
    }
}

/// As many columns and shards as there is room for; the last columns are the least important, and what is left out is said.
fn shard_table(activity: &Activity, area: Rect) -> Table<'static> {
    let heading = Style::new().add_modifier(Modifier::BOLD);
    let place = |shard: &Shard| {
        [shard.index.to_string(), shard.runs_on.map_or_else(|| "-".to_owned(), |cpu| cpu.to_string())]
    };
    let all = row(["all".to_owned(), String::new()], &activity.node);
    let rows: Vec<_> = activity.shards.iter().map(|shard| row(place(shard), &shard.load)).collect();
    let wide = |column: usize| {
        let cells = rows.iter().chain([&all]).map(|cells| cells[column].chars().count());
        cells.chain([HEADINGS[column].chars().count(), 6]).max().unwrap_or_default()
    };
    // Without the frame, and with a blank before each but the first.
    let (width, height) =
        (usize::from(area.width.saturating_sub(2)), usize::from(area.height.saturating_sub(2)));
    let fits = |columns: &usize| (0..*columns).map(wide).sum::<usize>() + columns.saturating_sub(1) <= width;
    let columns = (1..=HEADINGS.len()).rev().find(fits).unwrap_or(1);
    // Beside the headings and the sum. How many are left out stands on the frame.
    let shown = rows.len().min(height.saturating_sub(2));
    let left_out = rows.len() - shown;
    let cells = |texts: &[String; HEADINGS.len()]| {
        Row::new(
            texts[..columns]
                .iter()
                .cloned()
                .map(|text| Cell::from(Text::from(text).alignment(Alignment::Right))),
        )
    };
    let mut lines: Vec<Row<'_>> = rows[..shown].iter().map(cells).collect();
    lines.push(cells(&all).style(heading));
    let block = Block::bordered().title(match HEADINGS.len() - columns {
        0 => " shards ".to_owned(),
        more => format!(" shards (a wider terminal has {}) ", counted(more as u64, "more column")),
    });
    let block = match left_out {
        0 => block,
        more => block.title_bottom(format!(" … {} ", counted(more as u64, "more shard"))),
    };
    let widths = (0..columns).map(|column| Constraint::Fill(cells_of(wide(column))));
    Table::new(lines, widths).header(cells(&HEADINGS.map(str::to_owned)).style(heading)).block(block)
}

fn row([shard, cpu]: [String; 2], load: &Load) -> [String; HEADINGS.len()] {
    let rounded = |rate: f64| grouped(rate.round() as u64);
    [
        shard,
        cpu,
        load.cpu_share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
        rounded(load.reads_per_s),
        micros(load.p50_us),
        micros(load.p99_us),
        micros(load.p999_us),
        millis(load.lag_ms),
        rounded(load.applied_per_s),
        grouped(load.accounts),
        grouped(load.connections),
        grouped(load.table_bytes >> 20),
    ]
}

/// One line, for where there is no terminal.
fn line(activity: &Activity) -> String {
    let node = &activity.node;
    format!(
        "{:>4} s  {:>7} reads/s  p50 {} µs  p99 {} µs  lag {} ms  applied {}/s  {} accounts",
        activity.uptime_s as u64,
        grouped(node.reads_per_s.round() as u64),
        micros(node.p50_us),
        micros(node.p99_us),
        millis(node.lag_ms),
        grouped(node.applied_per_s.round() as u64),
        grouped(node.accounts),
    )
}

fn micros(us: Option<u64>) -> String {
    us.map_or_else(|| "-".to_owned(), grouped)
}

fn millis(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    /// What a node of two shards does.
    fn activity() -> Activity {
        let load = Load {
            reads_per_s: 4_321.4,
            applied_per_s: 1_000.0,
            p50_us: Some(9),
            p99_us: Some(44),
            accounts: 12_345,
            ..Load::default()
        };
        let shard = |index| Shard { index, runs_on: Some(3), load: load.clone(), ..Shard::default() };
        let caller = |shed| Caller { name: format!("team-{shed}"), shed, ..Caller::default() };
        let peer = |number| Peer {
            address: format!("node-{number}:7400"),
            is_this: number == 6,
            owns: number,
            stands_by: 2,
        };
        let said =
            |about: &str, weight| Said { about: about.to_owned(), words: "so it is".to_owned(), weight };
        Activity {
            uptime_s: 61.0,
            over_s: 1.0,
            node: load.clone(),
            shards: vec![shard(0), shard(1)],
            answers: vec![Answers {
                status: "STALE".to_owned(),
                total: 5_432,
                per_s: 1.6,
                ..Answers::default()
            }],
            callers: (0..9).map(caller).collect(),
            nodes: (0..7).map(peer).collect(),
            partitions: vec![
                Partition { partition: 7, role: "owner".to_owned(), lag_records: Some(1_234) },
                Partition { partition: 3, role: "standby".to_owned(), lag_records: Some(0) },
            ],
            said: vec![said("node", Weight::Well), said("cores", Weight::Note), said("audit", Weight::Fault)],
            ..Activity::default()
        }
    }

    fn drawn(width: u16, height: u16) -> String {
        drawn_of(&activity(), width, height)
    }

    fn drawn_of(activity: &Activity, width: u16, height: u16) -> String {
        let page = Page {
            activity,
            remark: Some(("it does not answer", Weight::Fault)),
            history: &[1, 2, 3],
            refusals: &["nobody known: GET /v1/audit: 401".to_owned()],
            user: &["balance of user 42".to_owned()],
            commands: &["curl one".to_owned(), "florin two".to_owned()],
            keys: "q ends",
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &page)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_what_the_node_does() {
        let screen = drawn(120, 52);
        for text in [
            "reads/s",
            "4,321",
            "12,345",
            "00:01:01",
            "curl one",
            "balance of user 42",
            "florin two",
            "q ends",
            "node: so it is",
            "audit: so it is",
            "it does not answer",
            "2/s            5,432",
            "team-8: 0 connections; refused 8 requests, 0 connections",
            "and 3 more",
            "node-6:7400 (this one): owner of 6 partitions, standby of 2",
            "node-1:7400: owner of 1 partition, standby of 2",
            "furthest behind: partition 7 (owner) by 1,234 records",
            "nobody known: GET /v1/audit: 401",
        ] {
            assert!(screen.contains(text), "{text} is missing in\n{screen}");
        }
        let line = line(&activity());
        assert!(
            line.contains("4,321 reads/s  p50 9 µs  p99 44 µs  lag - ms  applied 1,000/s  12,345 accounts")
        );
    }

    /// Headings were cut from the left, sentences from the right, and shards and their sum were left out without a word.
    #[test]
    fn what_a_small_screen_has_no_room_for_is_said() {
        let screen = drawn(60, 30);
        for heading in ["shard", "reads/s", "p99 µs", "a wider terminal has", "more columns"] {
            assert!(screen.contains(heading), "{heading} is missing in\n{screen}");
        }
        assert!(!screen.contains("MiB │") && !drawn(120, 52).contains("a wider terminal"), "{screen}");
        let mut many = activity();
        many.shards = (0..40).map(|index| Shard { index, ..many.shards[0].clone() }).collect();
        many.said[0].words = "every word of this sentence ".repeat(5) + "is read to its end";
        let screen = drawn_of(&many, 100, 40);
        for text in ["… 24 more shards", "all", "is read to its end", "audit: so it is"] {
            assert!(screen.contains(text), "{text} is missing in\n{screen}");
        }
        assert_eq!(wrapped("a bc  d", 4), ["a bc", "d"]);
        assert_eq!(wrapped("a  b longer", 4), ["a  b", "longer"]);
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (400, 100)] {
            drawn(width, height);
        }
    }

    #[test]
    fn a_first_look_is_no_rate() {
        let mut history = History::new();
        history.note(&Activity { over_s: 0.0, ..activity() });
        assert_eq!(history.as_slice()[HISTORY - 1], 0);
        history.note(&activity());
        assert_eq!((history.as_slice()[HISTORY - 1], history.as_slice().len()), (4_321, HISTORY));
    }
}
