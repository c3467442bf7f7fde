# The shared library shows its interface and nothing else.
execute_process(COMMAND ${NM} -D --defined-only ${LIBRARY} OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^ \n]+(\n|$)" symbols "${listed}")
list(TRANSFORM symbols STRIP)
list(SORT symbols)
set(wanted caflow_best_of caflow_close caflow_close_stream caflow_draw_frame caflow_free_results caflow_info
    caflow_judge caflow_last_error caflow_open caflow_open_stream caflow_sample caflow_score caflow_version)
if(NOT symbols STREQUAL wanted)
    message(FATAL_ERROR "wanted the symbols ${wanted}, got ${symbols}")
endif()
