//! The promises, each a function whose name says it.

mod lists;
mod log;
mod messages;
mod ownership;
mod runs;

use crate::Promise;

/// Names functions, and them as promises.
macro_rules! promises {
    ($($module:ident: $($name:ident),+;)+) => {
        &[$($(Promise { name: stringify!($name), check: $module::$name },)+)+]
    };
}

/// All of them.
pub const PROMISES: &[Promise] = promises! {
    runs:
        a_new_run_is_found_as_it_was_given,
        an_id_is_given_once,
        any_text_is_an_id,
        what_is_not_there_is_told,
        a_blob_comes_back_as_it_was,
        blobs_that_nothing_refers_to_are_freed,
        a_large_body_and_an_empty_one_come_back,
        a_summary_is_told_as_it_was_written,
        bytes_are_counted,
        a_deleted_run_leaves_nothing,
        what_was_written_is_there_when_opened_again,
        clocks_that_are_set_back_or_forward_decide_nothing;
    log:
        records_come_back_in_order,
        a_gap_is_refused,
        a_snapshot_replaces_what_is_in_it,
        a_snapshot_covers_only_what_was_written,
        a_write_is_done_whole_or_not_at_all,
        writes_happen_in_the_order_they_were_asked_for,
        a_write_behind_a_failed_one_fails_until_the_run_is_claimed_again,
        nobody_has_to_wait_for_a_write,
        threads_write_at_once_and_nothing_is_lost;
    ownership:
        a_run_without_a_worker_waits_to_be_claimed,
        a_run_under_way_is_not_given_away,
        a_worker_whose_counter_moved_keeps_its_run,
        a_worker_whose_counter_stood_still_loses_its_run,
        a_stale_owner_writes_nothing,
        a_released_run_is_free_and_its_claim_is_of_no_use,
        a_worker_takes_its_own_run_anew,
        one_of_many_contenders_gets_a_run,
        a_dismissed_worker_owns_nothing,
        a_worker_is_struck_off_only_as_it_was_seen,
        workers_are_listed_and_no_name_is_given_twice;
    messages:
        messages_wait_for_an_owner_and_come_in_order,
        a_message_stays_until_it_was_dealt_with,
        messages_go_with_their_run;
    lists:
        a_list_shows_the_newest_or_the_oldest_first_page_by_page,
        a_list_shows_what_is_asked_for,
        a_purge_takes_what_has_ended_and_nothing_else,
        a_purge_keeps_the_newest,
        a_purge_leaves_runs_under_way;
};
