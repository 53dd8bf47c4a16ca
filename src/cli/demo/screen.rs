//! What the demonstration shows: a screen on a terminal, a line a second elsewhere.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};

use super::sample::Rates;
use crate::admin::View;
use crate::cli::output::grouped;

/// Seconds that the history of requests reaches back.
pub(super) const HISTORY: usize = 240;

const HEADINGS: [&str; 9] =
    ["shard", "CPU", "reads/s", "p50 µs", "p99 µs", "lag ms", "applied/s", "accounts", "connections"];

/// Everything that is shown at one moment.
pub(super) struct Page<'a> {
    pub(super) view: &'a View,
    pub(super) running: Duration,
    pub(super) shards: &'a [Rates],
    pub(super) total: &'a Rates,
    /// Reads per second, the newest last.
    pub(super) history: &'a [u64],
    /// Commands to try.
    pub(super) commands: &'a [String],
}

/// Draws the screen.
pub(super) fn draw(frame: &mut Frame<'_>, page: &Page<'_>) {
    let shards = u16::try_from(page.shards.len()).unwrap_or(u16::MAX);
    let commands = u16::try_from(page.commands.len()).unwrap_or(u16::MAX);
    let rows = Layout::vertical([
        Constraint::Length(2),
        Constraint::Max(shards.saturating_add(4)),
        Constraint::Min(4),
        Constraint::Length(commands.saturating_add(2)),
        Constraint::Length(1),
    ]);
    let [top, table, history, commands, bottom] = rows.areas(frame.area());
    frame.render_widget(Paragraph::new(title(page)), top);
    frame.render_widget(shard_table(page), table);
    let newest = page.history.len().saturating_sub(usize::from(history.width.saturating_sub(2)));
    let sparkline = Sparkline::default().data(&page.history[newest..]).style(Style::new().cyan());
    frame.render_widget(sparkline.block(Block::bordered().title(" reads/s ")), history);
    let lines: Vec<Line<'_>> = page.commands.iter().map(|command| Line::raw(command.as_str())).collect();
    let block = Block::bordered().title(" try these in another terminal ");
    frame.render_widget(Paragraph::new(lines).block(block), commands);
    let hint = Paragraph::new("q ends the demonstration and removes its ledger").alignment(Alignment::Right);
    frame.render_widget(hint.dim(), bottom);
}

fn title(page: &Page<'_>) -> Line<'static> {
    let seconds = page.running.as_secs();
    Line::from(vec![
        "florin ".bold(),
        env!("CARGO_PKG_VERSION").bold(),
        format!(
            "   {} accounts on the {} driver   {:02}:{:02}",
            grouped(accounts(page.view)),
            page.view.driver,
            seconds / 60,
            seconds % 60
        )
        .into(),
    ])
}

fn shard_table(page: &Page<'_>) -> Table<'static> {
    let heading = Style::new().add_modifier(Modifier::BOLD);
    let cells = |texts: [String; HEADINGS.len()]| {
        Row::new(texts.map(|text| Cell::from(Text::from(text).alignment(Alignment::Right))))
    };
    let mut rows: Vec<Row<'_>> = Vec::new();
    for (index, (shard, rates)) in page.view.shards.iter().zip(page.shards).enumerate() {
        let lag = shard.lag_us(&page.view.clock).map_or_else(|| "-".to_owned(), millis);
        let metrics = &shard.metrics;
        let (accounts, connections) = (metrics.accounts.get(), metrics.connections.get());
        rows.push(cells(row([index.to_string(), shard.cpu.to_string()], rates, lag, accounts, connections)));
    }
    let connections = page.view.shards.iter().map(|shard| shard.metrics.connections.get()).sum();
    let lag = lag_us(page.view).map_or_else(|| "-".to_owned(), millis);
    let total = row(["all".to_owned(), String::new()], page.total, lag, accounts(page.view), connections);
    rows.push(cells(total).style(heading));
    Table::new(rows, [Constraint::Fill(1); HEADINGS.len()])
        .header(cells(HEADINGS.map(str::to_owned)).style(heading))
        .block(Block::bordered().title(" shards "))
}

fn row(
    [shard, cpu]: [String; 2],
    rates: &Rates,
    lag: String,
    accounts: u64,
    connections: u64,
) -> [String; HEADINGS.len()] {
    let rounded = |rate: f64| grouped(rate.round() as u64);
    [
        shard,
        cpu,
        rounded(rates.answers_per_s),
        grouped(rates.p50_us),
        grouped(rates.p99_us),
        lag,
        rounded(rates.applied_per_s),
        grouped(accounts),
        grouped(connections),
    ]
}

/// One line, for where there is no terminal.
pub(super) fn line(page: &Page<'_>) -> String {
    format!(
        "{:>4} s  {:>7} reads/s  p50 {} µs  p99 {} µs  lag {} ms  applied {}/s  {} accounts",
        page.running.as_secs(),
        grouped(page.total.answers_per_s.round() as u64),
        page.total.p50_us,
        page.total.p99_us,
        lag_us(page.view).map_or_else(|| "-".to_owned(), millis),
        grouped(page.total.applied_per_s.round() as u64),
        grouped(accounts(page.view)),
    )
}

fn accounts(view: &View) -> u64 {
    view.shards.iter().map(|shard| shard.metrics.accounts.get()).sum()
}

/// The largest.
fn lag_us(view: &View) -> Option<u64> {
    view.shards.iter().filter_map(|shard| shard.lag_us(&view.clock)).max()
}

fn millis(us: u64) -> String {
    format!("{:.1}", us as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use florin_schema::ShardIndex;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::clock::Clock;
    use crate::mesh::Latest;
    use crate::node::ShardHandle;

    /// Draws a page of two shards on a screen of this size.
    fn drawn(width: u16, height: u16) -> String {
        let shard = |cpu| ShardHandle {
            index: ShardIndex(0),
            cpu,
            thread_id: 1,
            metrics: Arc::default(),
            watermark: Arc::new(Latest::new()),
        };
        let view = View::new(vec![shard(0), shard(3)], Clock::new(None), "ring".to_owned());
        view.shards[1].metrics.accounts.set(12_345);
        let rates = Rates { answers_per_s: 4_321.4, applied_per_s: 1_000.0, p50_us: 9, p99_us: 44 };
        let page = Page {
            view: &view,
            running: Duration::from_secs(61),
            shards: &[rates.clone(), rates.clone()],
            total: &rates,
            history: &[1, 2, 3],
            commands: &["curl one".to_owned(), "florin two".to_owned()],
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &page)).unwrap();
        assert!(
            line(&page)
                .contains("4,321 reads/s  p50 9 µs  p99 44 µs  lag - ms  applied 1,000/s  12,345 accounts")
        );
        terminal.backend().to_string()
    }

    #[test]
    fn the_screen_shows_shards_and_commands() {
        let screen = drawn(100, 24);
        for text in ["reads/s", "4,321", "12,345", "01:01", "curl one", "florin two", "q ends"] {
            assert!(screen.contains(text), "{text} is missing in\n{screen}");
        }
    }

    #[test]
    fn a_screen_of_any_size_is_drawn() {
        for (width, height) in [(1, 1), (10, 3), (40, 8), (400, 100)] {
            drawn(width, height);
        }
    }
}
