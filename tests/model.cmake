rodeo_test(test_net SOURCES test_net.c golden.c LINKS rodeo_train lib_jansson)
