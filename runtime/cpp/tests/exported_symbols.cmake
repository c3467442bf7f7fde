# Checks that the shared library exports its interface and no other symbols.
execute_process(COMMAND ${NM} -D --defined-only ${LIBRARY} OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^ \n]+(\n|$)" symbols "${listed}")
list(TRANSFORM symbols STRIP)
list(SORT symbols)
set(wanted caflow_best_of caflow_close caflow_close_stream caflow_draw_frame caflow_free_results caflow_info
    caflow_judge caflow_last_error caflow_open caflow_open_stream caflow_sample caflow_score caflow_set_stopped
    caflow_version)
if(NOT symbols STREQUAL wanted)
    message(FATAL_ERROR "the library must export ${wanted}; got ${symbols}")
endif()
