# A stand-in for Slicer's CMake package, which continuous integration cannot have: just enough to install the extension
# where Slicer would. Folders, and which files end up in them, are as in Slicer 5.13; nothing is compiled or packaged.

set(Slicer_USE_FILE "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
set(Slicer_EXTENSION_GENERATE_CONFIG "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")
set(Slicer_EXTENSION_CPACK "${CMAKE_CURRENT_LIST_DIR}/Nothing.cmake")

set(Slicer_QTSCRIPTEDMODULES_LIB_DIR "lib/Slicer-5.13/qt-scripted-modules")
set(Slicer_CLIMODULES_BIN_DIR "lib/Slicer-5.13/cli-modules")
set(Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR "${Slicer_QTSCRIPTEDMODULES_LIB_DIR}")
set(Slicer_INSTALL_CLIMODULES_BIN_DIR "${Slicer_CLIMODULES_BIN_DIR}")

# The listed files go into the build tree, and whatever lies there in the end is installed.
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(ARG "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  refuse_unknown("${ARG_UNPARSED_ARGUMENTS}")
  foreach(file IN LISTS ARG_SCRIPTS ARG_RESOURCES)
    configure_file("${file}" "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${file}" COPYONLY)
  endforeach()
  install(DIRECTORY "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/"
    DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}")
endmacro()

# Two files, whatever lies beside them.
macro(SlicerMacroBuildScriptedCLI)
  cmake_parse_arguments(ARG "NO_INSTALL;VERBOSE" "NAME;FOLDER" "" ${ARGN})
  refuse_unknown("${ARG_UNPARSED_ARGUMENTS}")
  add_custom_target(${ARG_NAME} ALL)
  install(FILES "${ARG_NAME}.py" "${ARG_NAME}.xml" DESTINATION "${Slicer_INSTALL_CLIMODULES_BIN_DIR}")
endmacro()

function(refuse_unknown arguments)
  if(arguments)
    message(FATAL_ERROR "Slicer's macro knows no such arguments: ${arguments}")
  endif()
endfunction()
